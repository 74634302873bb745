"""Trains every model that learns by gradient, a few steps each, in however many processes there are.

As a program it is one process of a team: `python -m tests.training.together FOLDER`, with the variables that `torchrun`
sets. The leader leaves the weights in FOLDER.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modalrec import plugins
from modalrec.config import resolve
from modalrec.data.splits import TRAIN
from modalrec.recommenders._rows import RowModel
from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.run import Run
from modalrec.stages._fuse_learn import ModalityBatches
from modalrec.testing.fusers import DIMENSIONS, paired
from modalrec.testing.quantizers import mixture
from modalrec.testing.recommenders import walks
from modalrec.testing.rows import taste_rows, taste_space, tastes
from modalrec.training.batches import Batches
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.vectors import VectorBatches
from tests.fusers.test_contract import TRAINED
from tests.quantizers.test_contract import FORMS
from tests.recommenders.test_contract import SMALL, TestRecommenders
from tests.recommenders.test_row_contract import SMALL as SMALL_ROWS

CONFIG = TrainingConfig(epochs=2, batch_size=32, accumulate=2, warmup_steps=2, learning_rate=3e-3)
Weights = dict[str, dict[str, Tensor]]


class Few(Batches):
    """The first three batches of an epoch: the last group of two has one."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def plan(self, epoch: int) -> Sequence[Any]:
        return self.batches.plan(epoch)[:3]

    def build(self, epoch: int, step: int, indices: Any) -> Any:
        return self.batches.build(epoch, step, indices)

    def apart(self, count: int) -> Batches:
        apart = self.batches.apart(count)
        return self if apart is self.batches else apart


def quantizer(form: str) -> tuple[nn.Module, Batches]:
    name, settings = FORMS[form]
    plugin = plugins.discover("quantizers")[name]
    vectors_ND, _ = mixture()
    torch.manual_seed(0)
    made = plugin(plugin.Config(**settings), vectors_ND.shape[1])
    made.initialise(vectors_ND)
    return made, VectorBatches(vectors_ND, CONFIG.batch_size, Run("together"))


def fuser(name: str) -> tuple[nn.Module, Batches]:
    made = TRAINED[name](TRAINED[name].Config(), DIMENSIONS, 0)
    rows = np.arange(500)
    made.initialise(paired().rows(rows))
    return made, ModalityBatches(paired(), rows, CONFIG.batch_size, Run("together"))


def recommender(name: str, **settings: Any) -> tuple[nn.Module, Batches]:
    plugin = plugins.discover("recommenders")[name]
    if issubclass(plugin, RowModel):
        return row_model(plugin, settings)
    case = TestRecommenders()
    case.plugin = plugin
    dropout = {"dropout": 0.2} if "dropout" in case.plugin.Config.model_fields else {}
    case.settings = {**SMALL.get(name, {}), **dropout, **settings}
    made = case.build()
    made.observe(walks().train())
    return made, made.batches(walks().train(), CONFIG.batch_size, 0, augment=True)


def row_model(plugin: type[RowModel], settings: dict[str, Any]) -> tuple[nn.Module, Batches]:
    rows = taste_rows(tastes(30))
    torch.manual_seed(0)
    small = {**SMALL_ROWS[plugin.Config().name], "dropout": 0.2, "embedding_decay": 0.01, **settings}
    made = plugin(resolve(plugin.Config, small), taste_space(tastes(30), rows))
    return made, made.batches(rows, rows.of(TRAIN, made.task), CONFIG.batch_size, 0)


def cases() -> dict[str, tuple[nn.Module, Batches]]:
    """From a title to a fresh model and its data."""
    found = {f"quantizer {form}": quantizer(form) for form in FORMS}
    found |= {f"fuser {name}": fuser(name) for name in TRAINED}
    found |= {f"recommender {name}": recommender(name) for name in plugins.discover("recommenders")}
    dropped = {"dropout_p_embed": 0.2, "dropout_p_hidden": 0.2, "momentum": 0.5, "shuffle_sessions": True}
    for title, settings in (
        ("bpr-max", {"loss": "bpr-max", "embedding": "separate", **dropped}),
        ("bptt", {"embedding": "none", "bptt": 3, "layers": [16, 8]}),
    ):
        found[f"recommender gru4rec {title}"] = recommender("gru4rec", **settings)
    for tables in ("adam", "row_adagrad"):
        found[f"recommender din {tables}"] = recommender("din", tables=tables)
    return {name: made for name, made in found.items() if any(p.requires_grad for p in made[0].parameters())}


def learn(model: nn.Module, batches: Batches, **options: Any) -> dict[str, Tensor]:
    """The weights after training."""
    run = options.pop("run", Run("together", device="cpu", quiet=True))
    own = {"weight_decay": 0.0, "clip_norm": 0.0} if isinstance(model, GRU4Rec) else {}
    fit(model, Few(batches), config=CONFIG.model_copy(update=own), run=run, fingerprint="f" * 64, **options)
    return {name: value.clone() for name, value in model.state_dict().items()}


def train_all() -> Weights:
    torch.set_num_threads(1)
    return {name: learn(*made) for name, made in cases().items()}


def interrupted(checkpoints: Path, stop_rank: int = -1) -> dict[str, Tensor]:
    """Trains the hybrid, whose process `stop_rank` is asked to end at the third step; then goes on."""
    run = Run("together", device="cpu", quiet=True, checkpoints=str(checkpoints), checkpoint_seconds=1e9)
    measured = {"validate": lambda: {"ndcg_10": float(os.environ.get("RANK", "0"))}, "monitor": "ndcg_10"}
    model, batches = recommender("hybrid")
    build, built = batches.build, iter(range(10**6))

    def dying(epoch: int, step: int, indices: Any) -> Any:
        if next(built) == 2 and int(os.environ.get("RANK", "-1")) == stop_rank:
            signal.raise_signal(signal.SIGTERM)
        return build(epoch, step, indices)

    if stop_rank >= 0:
        batches.build = dying  # type: ignore[method-assign]
        try:
            learn(model, batches, run=run, **measured)
        except SystemExit:
            print("stopped", flush=True)
        model, batches = recommender("hybrid")
    return learn(model, batches, run=run, **measured)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    weights = train_all()
    weights["interrupted"] = interrupted(folder / "checkpoints", stop_rank=1)
    if os.environ["RANK"] == "0":
        torch.save(weights, folder / "weights.pt")
