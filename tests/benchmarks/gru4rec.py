"""Training GRU4Rec: ours beside the authors' PyTorch code, interleaved in one process, one thread each.

The authors' checkout is the user's own (GRU4REC_OFFICIAL). It is used as it is, but for two casts without which it
does not start here, made from outside: initial weights to float32 (NumPy 2 makes them float64), and item supports from
a pandas Series to an array (torch does not take a Series of pandas 3). Both sides train from the same compatible
initial weights over the same schedule, with samples of the same distribution; CPU-seconds cover building the batches,
sampling included, and the steps. Sessions are generated: popularity falls with rank^-0.9, and six of ten events follow
a transition that their item has.
"""

import importlib
import os
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from modalrec.data.sequences import Sequences
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from modalrec.training.loop import TrainingConfig
from tests.benchmarks._sessions import drawn_sessions

ROUNDS = 3
SESSIONS, MEAN_LENGTH = 96_670, 5.0
ITEMS = (20_000, 200_000)
SETTINGS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "RetailRocket": (
        192,
        {"loss": "bpr-max", "layers": 224, "dropout_p_embed": 0.5, "dropout_p_hidden": 0.05, "momentum": 0.4}
        | {"sample_alpha": 0.4, "bpreg": 1.95, "elu_param": 0.5, "logq": 0.0},
        {"batch_size": 80, "learning_rate": 0.05},
    ),
    "RSC15": (
        512,
        {"loss": "cross-entropy", "layers": 100, "dropout_p_embed": 0.1, "sample_alpha": 0.75, "logq": 1.0},
        {"batch_size": 32, "learning_rate": 0.1},
    ),
    "Rees46": (
        64,
        {"loss": "cross-entropy", "layers": 512, "dropout_p_embed": 0.45, "sample_alpha": 0.5, "logq": 1.0},
        {"batch_size": 240, "learning_rate": 0.065},
    ),
}
"""Measured steps, the model and its training: three of the authors' best published settings."""


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    official = os.environ.get("GRU4REC_OFFICIAL")
    other = "authors" if official else "torch engine"
    if not official:
        print(
            "without GRU4REC_OFFICIAL=DIR, a checkout of hidasib/GRU4Rec_PyTorch_Official, ours is compared with itself"
        )
    print(f"mini-batches per CPU-second, one thread, median of {ROUNDS} interleaved rounds")
    print(f"{'setting':<13} {'items':>8} {other:>12} {'ours':>8} {'events/s':>9} {'ratio':>6}  rounds        loss")
    for n_items in ITEMS:
        sequences = sessions(n_items)
        frame = as_frame(sequences) if official else None
        for name, (steps, model, training) in SETTINGS.items():
            theirs, mine = [], []
            for _ in range(ROUNDS):
                if official and frame is not None:
                    theirs.append(authors(official, frame, steps, model, training))
                else:
                    theirs.append(ours(sequences, steps, {**model, "engine": "torch"}, training))
                mine.append(ours(sequences, steps, model, training))
            ratios = [b[0] / a[0] for a, b in zip(theirs, mine, strict=True)]
            rate, before = (statistics.median(value for value, _ in side) for side in (mine, theirs))
            rounds = f"{min(ratios):.2f} - {max(ratios):.2f}"
            print(
                f"{name:<13} {sequences.n_items:>8,} {before:>12.1f} {rate:>8.1f} "
                f"{rate * training['batch_size']:>9,.0f} {statistics.median(ratios):>6.2f}  {rounds}  "
                f" {theirs[0][1]:.4f} / {mine[0][1]:.4f}",
                flush=True,
            )


def sessions(n_items: int, seed: int = 0) -> Sequences:
    """Generated sessions of items that occur, numbered by first appearance."""
    rng = np.random.default_rng(seed)
    items, offsets = drawn_sessions(
        rng, n_items, lambda: np.minimum(1 + rng.geometric(1 / (MEAN_LENGTH - 1), SESSIONS), 60)
    )
    used, first, numbered = np.unique(items, return_index=True, return_inverse=True)
    rank = np.empty(len(used), np.int32)
    rank[np.argsort(first)] = np.arange(len(used), dtype=np.int32)
    return Sequences(rank[numbered], offsets, np.zeros(len(items), np.int8), len(used), "sessions", offsets[:-1])


def as_frame(sequences: Sequences) -> pd.DataFrame:
    """The same sessions as the authors' code reads them."""
    session = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    return pd.DataFrame({"SessionId": session, "ItemId": sequences.items, "Time": np.arange(len(session))})


def ours(sequences: Sequences, steps: int, model: dict[str, Any], training: dict[str, Any]) -> tuple[float, float]:
    """Mini-batches per CPU-second, and the mean loss of the measured steps."""
    names = [str(item) for item in range(sequences.n_items)]
    config = GRU4RecConfig(**{**model, "layers": (model["layers"],), "sample_store_size": 2048 * (steps + 64)})
    recommender = GRU4Rec(config, ItemSpace(names, names)).train()
    batches = recommender.batches(sequences, training["batch_size"], 0, augment=False)
    settings = TrainingConfig.model_validate({**recommender.training_defaults, **training})
    learner = recommender.steps(settings, 0)
    plan = batches.plan(0)
    rate = training["learning_rate"]
    learner.step(batches.build(0, 0, plan[0]), rate)  # compiles, or warms up
    chunks = range(1, 1 + steps // batches.chunk)
    begin = time.process_time()
    losses = [learner.step(batches.build(0, chunk, plan[chunk]), rate).losses["loss"] for chunk in chunks]
    return steps / (time.process_time() - begin), statistics.mean(losses)


def authors(
    folder: str, frame: pd.DataFrame, steps: int, model: dict[str, Any], training: dict[str, Any]
) -> tuple[float, float]:
    """The same of the authors' code, stopped from outside after the measured steps."""
    module = _import(folder)
    settings = {**model, **training, "layers": [model["layers"]], "n_sample": 2048, "n_epochs": 1}
    learner = module.GRU4Rec(device=torch.device("cpu"), **settings)
    losses: list[torch.Tensor] = []
    begin = [0.0]
    plain_loss, plain_step = learner.loss_function, module.IndexedAdagradM.step

    def loss_function(*arguments: Any) -> torch.Tensor:
        loss: torch.Tensor = plain_loss(*arguments)
        losses.append(loss.detach() / learner.batch_size)
        return loss

    def step(optimizer: Any, closure: Any = None) -> Any:
        done = plain_step(optimizer, closure)
        if len(losses) == 64:
            begin[0] = time.process_time()
        if len(losses) == 64 + steps:
            raise StopIteration
        return done

    learner.loss_function, module.IndexedAdagradM.step = loss_function, step
    try:
        _quietly(lambda: learner.fit(frame, sample_cache_max_size=2048 * (steps + 65)))
    except StopIteration:
        seconds = time.process_time() - begin[0]
    finally:
        module.IndexedAdagradM.step = plain_step
    return steps / seconds, torch.stack(losses[64:]).mean().item()


def _import(folder: str) -> Any:
    """The authors' module, with the two casts."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = importlib.import_module("gru4rec_pytorch")
    if not hasattr(module, "cast"):
        plain = module.GRU4RecModel._init_numpy_weights
        module.GRU4RecModel._init_numpy_weights = lambda self, shape: plain(self, shape).astype("float32")
        module.torch, module.cast = _Torch(), True
    return module


class _Torch:
    """The module torch, whose `tensor` takes a pandas Series."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def tensor(value: Any, *arguments: Any, **options: Any) -> torch.Tensor:
        return torch.tensor(value.to_numpy() if isinstance(value, pd.Series) else value, *arguments, **options)


def _quietly(call: Any) -> None:
    before, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    try:
        call()
    finally:
        sys.stdout.close()
        sys.stdout = before
