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
from modalrec.run import Run
from modalrec.stages._fuse_learn import ModalityBatches
from modalrec.testing.fusers import DIMENSIONS, paired
from modalrec.testing.quantizers import mixture
from modalrec.testing.recommenders import walks
from modalrec.training.batches import Batches
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.steps import HasSteps
from modalrec.training.vectors import VectorBatches
from tests.fusers.test_contract import TRAINED
from tests.quantizers.test_contract import FORMS
from tests.recommenders.test_contract import SMALL, TestRecommenders

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


def recommender(name: str) -> tuple[nn.Module, Batches]:
    case = TestRecommenders()
    case.plugin = plugins.discover("recommenders")[name]
    dropout = {"dropout": 0.2} if "dropout" in case.plugin.Config.model_fields else {}
    case.settings = {**SMALL.get(name, {}), **dropout}
    made = case.build()
    made.observe(walks().train())
    return made, made.batches(walks().train(), CONFIG.batch_size, 0, augment=True)


def cases() -> dict[str, tuple[nn.Module, Batches]]:
    """From a title to a fresh model and its data; without the models that bring steps of their own."""
    found = {f"quantizer {form}": quantizer(form) for form in FORMS}
    found |= {f"fuser {name}": fuser(name) for name in TRAINED}
    able = [name for name, plugin in plugins.discover("recommenders").items() if not issubclass(plugin, HasSteps)]
    found |= {f"recommender {name}": recommender(name) for name in able}
    return {name: made for name, made in found.items() if any(p.requires_grad for p in made[0].parameters())}


def learn(model: nn.Module, batches: Batches, **options: Any) -> dict[str, Tensor]:
    """The weights after training."""
    run = options.pop("run", Run("together", device="cpu", quiet=True))
    fit(model, Few(batches), config=CONFIG, run=run, fingerprint="f" * 64, **options)
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
