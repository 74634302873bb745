"""Trains every model that learns by gradient, a few steps each, in however many processes there are.

As a program it is one process of a team: `python -m tests.training.together FOLDER`, with the variables that `torchrun`
sets. The leader leaves the weights in FOLDER.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modalrec import plugins
from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.data.splits import TRAIN
from modalrec.encoders.huggingface import HuggingFace
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
from tests.encoders.small import CORPUS, folder_of
from tests.fusers.test_contract import TRAINED
from tests.quantizers.test_contract import FORMS
from tests.recommenders.test_contract import SMALL, TestRecommenders
from tests.recommenders.test_row_contract import SMALL as SMALL_ROWS

CONFIG = TrainingConfig(epochs=2, batch_size=32, accumulate=2, warmup_steps=2, learning_rate=3e-3)
Weights = dict[str, dict[str, Tensor]]

DROPPED = {"dropout_p_embed": 0.2, "dropout_p_hidden": 0.2, "momentum": 0.5, "shuffle_sessions": True}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru4rec, bpr-max": ("gru4rec", {"loss": "bpr-max", "embedding": "separate", **DROPPED}),
    "gru4rec, bptt": ("gru4rec", {"embedding": "none", "bptt": 3, "layers": [16, 8]}),
    "din, adam": ("din", {"tables": "adam"}),
    "din, row_adagrad": ("din", {"tables": "row_adagrad"}),
    "dlrm, content": ("dlrm", {"without": [], "id_dropout": 0.2, "interaction": "dcn_v2", "penalty": 0.01}),
    "dlrm, clicks": ("dlrm", {"without": ["image"], "id_dropout": 0.2, "head": "click", "tables": "lazy_adam"}),
    "encoder_decoder, t5": ("encoder_decoder", {"form": "t5"}),
    "hybrid, batch": ("hybrid", {"negatives": "batch"}),
    "mp4sr, published": ("mp4sr", {"published": True, "norm": "pre"}),
    "sasrec, sampled_softmax": ("sasrec", {"loss": "sampled_softmax", "similarity": "cosine"}),
    "sasrec, gbce": ("sasrec", {"loss": "gbce"}),
}
"""Recommenders that learn in another way than by default: a title, the name, settings."""


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
    return made, VectorBatches(vectors_ND.numpy(), CONFIG.batch_size, Run("together"))


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
    """With texts for most items and pictures for half of them, for those that look at content."""
    rows = taste_rows(tastes(30))
    space = taste_space(tastes(30), rows)
    vectors_NV = np.random.default_rng(0).standard_normal((len(space), 32)).astype(np.float32)
    text, image = (VectorLists.single(vectors_NV, np.arange(len(space)) % step > 0) for step in (5, 2))
    torch.manual_seed(0)
    small = {**SMALL_ROWS.get(plugin.Config().name, {}), "dropout": 0.2, "embedding_decay": 0.01, **settings}
    made = plugin(resolve(plugin.Config, small), replace(space, text=text, image=image))
    return made, made.batches(rows, rows.of(TRAIN, made.task), CONFIG.batch_size, 0)


def fine_tuned() -> tuple[nn.Module, Batches]:
    """DLRM over the last layer of an encoder of texts, which is trained with it."""
    made, batches = recommender("dlrm", without=["image"], finetune_layers=1)
    encoder = HuggingFace(HuggingFace.Config(model=str(folder_of("bert")), pooling="cls"), "cpu", "text", "float32")
    last = encoder.last_layers(1)
    texts = [CORPUS[item % len(CORPUS)] for item in range(len(made.items))]
    made.modalities["text"].fine_tune(last, encoder.states(texts, last.below))
    return made, batches


def cases() -> dict[str, tuple[nn.Module, Batches]]:
    """From a title to a fresh model and its data."""
    found = {f"quantizer {form}": quantizer(form) for form in FORMS}
    found |= {f"fuser {name}": fuser(name) for name in TRAINED}
    names = {name: (name, {}) for name in plugins.discover("recommenders")}
    found |= {f"recommender {title}": recommender(name, **given) for title, (name, given) in (names | VARIANTS).items()}
    found["recommender dlrm, fine-tuned"] = fine_tuned()
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
