"""Small sessions from formulas, and the ways to train on them; the recorded numbers in `tests/reference` rest on them.

All of it comes from numpy's `RandomState`, whose stream never changes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from modalrec.training.loop import TrainingConfig
from modalrec.training.sessions import SessionParallel
from modalrec.training.steps import Steps

REFERENCE = Path(__file__).parents[1] / "reference"
BOTH = ("torch", "fused")


def reference(subject: str) -> dict[str, Any]:
    """The recorded numbers of a subject."""
    found: dict[str, Any] = json.loads((REFERENCE / f"gru4rec_{subject}.json").read_bytes())
    return found


def uniform(seed: int, *shape: int) -> np.ndarray:
    """Uniform on [0, 1)."""
    return np.random.RandomState(seed).random_sample(shape)


def small_sessions(n_sessions: int = 60, n_items: int = 30, seed: int = 0) -> Sequences:
    """Sessions of 2 to 8 events, oldest first, in a catalogue where small numbers are popular.

    Items are numbered in the order of their first event, as the authors' code numbers them.
    """
    rng = np.random.RandomState(seed)
    lengths = 2 + (7 * rng.random_sample(n_sessions)).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = (n_items * rng.random_sample(offsets[-1]) ** 2).astype(np.int64)
    _, first, numbers = np.unique(drawn, return_index=True, return_inverse=True)
    renumbered = np.argsort(np.argsort(first))
    items = renumbered[numbers].astype(np.int32)
    return Sequences(items, offsets, np.zeros(len(items), np.int8), len(first), "sessions", offsets[:-1].copy())


def given_samples(n_steps: int, n_sample: int, n_items: int, seed: int = 1) -> np.ndarray:
    """[n_steps, n_sample] items, small numbers more often."""
    return (n_items * uniform(seed, n_steps, n_sample) ** 2).astype(np.int32)


class GivenStore:
    """Gives rows of an array in order, epoch after epoch, in the place of a `SampleStore`."""

    def __init__(self, samples_TC: np.ndarray) -> None:
        self.samples_TC, self.n_sample = samples_TC, samples_TC.shape[1]

    def samples(self, epoch: int, first: int, last: int, n_steps: int) -> np.ndarray:
        rows = np.arange(epoch * n_steps + first, epoch * n_steps + last)
        return self.samples_TC[rows % max(len(self.samples_TC), 1)]


def build(n_items: int, vectors: np.ndarray | None = None, **settings: Any) -> GRU4Rec:
    """A model of some settings, in training mode."""
    names = [f"item-{item}" for item in range(n_items)]
    config = resolve(GRU4RecConfig, {"layers": [16], "n_sample": 24, **settings})
    return GRU4Rec(config, ItemSpace(names, names, content=vectors)).train()


def start(model: GRU4Rec, train: Sequences, batch_size: int, seed: int = 0) -> Steps:
    """Steps of a model that knows the sessions it will learn from."""
    model.batches(train, batch_size, seed, augment=False)
    return model.steps(TrainingConfig(batch_size=batch_size, weight_decay=0, clip_norm=0), seed)


def learn(
    steps: Steps, batches: SessionParallel, n_steps: int, rate: float, first: int = 0, n_epochs: int = 10**6
) -> list[float]:
    """Losses of chunks, from the chunk `first` of the whole run on, epoch after epoch."""
    losses: list[float] = []
    at = 0
    for epoch in range(n_epochs):
        for step, indices in enumerate(batches.plan(epoch)):
            if len(losses) == n_steps:
                return losses
            if at >= first:
                losses.append(steps.step(batches.build(epoch, step, indices), rate).losses["loss"])
            at += 1
    return losses


def trained(
    train: Sequences,
    n_steps: int,
    *,
    batch_size: int = 8,
    rate: float = 0.05,
    samples: np.ndarray | None = None,
    seed: int = 0,
    chunk: int = 1,
    **settings: Any,
) -> tuple[GRU4Rec, list[float]]:
    """A new model after some chunks, and their losses."""
    torch.manual_seed(seed)
    model = build(train.n_items, **settings)
    batches = model.batches(train, batch_size, seed, augment=False)
    store = batches.store if samples is None else GivenStore(samples)
    batches = SessionParallel(train, batch_size, store, shuffle_seed=batches.shuffle_seed, chunk=chunk)  # type: ignore[arg-type]
    steps = start(model, train, batch_size, seed)
    losses = learn(steps, batches, n_steps, rate)
    steps.finish()
    return model, losses


def named_weights(model: GRU4Rec, seed: int) -> dict[str, np.ndarray]:
    """Numbers for all parameters, by name, in the order of names."""
    rng = np.random.RandomState(seed)
    return {
        name: (1.6 * rng.random_sample(tuple(value.shape)) - 0.8).astype(np.float32)
        for name, value in sorted(model.state_dict().items())
    }


# Networks whose outputs were recorded: three modes of reading items, one and several layers, of several widths. With
# `none` the authors' code runs with one layer only: with more, it takes the cell of the layer after.
NETWORKS: dict[str, dict[str, Any]] = {
    "constrained": {"layers": [6]},
    "constrained_two": {"layers": [6, 4]},
    "separate": {"layers": [6], "embedding": "separate", "embedding_size": 5},
    "separate_two": {"layers": [6, 4], "embedding": "separate", "embedding_size": 5},
    "none": {"layers": [6], "embedding": "none"},
}
NETWORK_ITEMS = 9
NETWORK_INPUTS = [[3, 0, 8], [1, 1, 2], [5, 7, 4], [8, 6, 0]]
NETWORK_FRESH = [[0, 1, 2], [], [1], []]
"""Lanes whose state is zero before each of these steps."""

# Weights that were recorded where the authors' compatible mode runs.
WEIGHTS: dict[str, dict[str, Any]] = {
    "constrained": {"layers": [12]},
    "constrained_two": {"layers": [12, 12]},
    "separate": {"layers": [12], "embedding": "separate"},
    "none": {"layers": [12], "embedding": "none"},
}
WEIGHTS_ITEMS = 20

# Losses that were recorded; scores [5, 14] are 5 targets and 9 samples, of which some repeat.
LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"loss": "cross-entropy"},
    "cross_entropy_logq": {"loss": "cross-entropy", "logq": 1.0, "sample_alpha": 0.75},
    "cross_entropy_half_logq": {"loss": "cross-entropy", "logq": 0.5, "sample_alpha": 0.3},
    "bpr_max_elu_half": {"loss": "bpr-max", "elu_param": 0.5, "bpreg": 1.95},
    "bpr_max_elu_one": {"loss": "bpr-max", "elu_param": 1.0, "bpreg": 0.3},
    "bpr_max_linear": {"loss": "bpr-max", "elu_param": 0.0, "bpreg": 0.5},
    "bpr_max_without_regularisation": {"loss": "bpr-max", "elu_param": 0.5, "bpreg": 0.0},
}
LOSS_TARGETS = [2, 0, 5, 2, 7]
LOSS_SAMPLES = [1, 1, 2, 9, 9, 9, 3, 0, 6]
LOSS_ITEMS = 10


def loss_inputs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [5, 3], vectors [10, 3] with biases as fourth column, support [10]."""
    support = (1 + 200 * uniform(7, LOSS_ITEMS) ** 2).astype(np.int64)
    return (
        (4 * uniform(5, 5, 3) - 2).astype(np.float32),
        (4 * uniform(6, LOSS_ITEMS, 4) - 2).astype(np.float32),
        support,
    )


# Optimizer: five updates of a table [6, 3] by rows that repeat, and of a vector [4].
OPTIMIZER_ROWS = [[0, 3, 0, 0], [5, 5], [3, 1, 2], [0], [2, 5, 2, 3, 3]]


def optimizer_grads() -> list[tuple[np.ndarray, np.ndarray]]:
    """Gradients of the rows, and of the vector, of every update."""
    found = []
    for step, rows in enumerate(OPTIMIZER_ROWS):
        found.append((2 * uniform(20 + step, len(rows), 3) - 1, 2 * uniform(40 + step, 4) - 1))
    return [(rows.astype(np.float32), whole.astype(np.float32)) for rows, whole in found]


# Training: 300 steps. The sessions of `long` fill all lanes for so long; those of `short` go through three epochs.
TRAINING: dict[str, dict[str, Any]] = {
    "bpr_max": {"data": "short", "loss": "bpr-max", "bpreg": 1.95, "elu_param": 0.5, "momentum": 0.4},
    "bpr_max_linear": {"data": "short", "loss": "bpr-max", "bpreg": 0.5, "elu_param": 0.0},
    "bpr_max_without_samples": {"data": "short", "loss": "bpr-max", "bpreg": 1.0, "n_sample": 0},
    "bpr_max_none": {"data": "short", "loss": "bpr-max", "momentum": 0.1, "embedding": "none"},
    "cross_entropy": {"data": "short", "loss": "cross-entropy", "n_sample": 48},
    "cross_entropy_without_samples": {"data": "short", "loss": "cross-entropy", "n_sample": 0, "momentum": 0.2},
    "cross_entropy_logq": {"data": "long", "loss": "cross-entropy", "logq": 1.0, "sample_alpha": 0.75},
    "cross_entropy_separate": {
        "data": "long",
        "loss": "cross-entropy",
        "logq": 1.0,
        "embedding": "separate",
        "momentum": 0.2,
    },
    "cross_entropy_two_layers": {"data": "long", "loss": "cross-entropy", "logq": 0.5, "layers": [24, 24]},
}
TRAINING_STEPS, TRAINING_BATCH, TRAINING_RATE = 300, 12, 0.05
TRAINING_SESSIONS = {"short": (260, 120, 3), "long": (1100, 150, 4)}
"""Sessions, items and seed."""


def training_case(name: str) -> tuple[dict[str, Any], Sequences, np.ndarray]:
    """Settings, sessions and samples of a recorded training."""
    settings = {"layers": [24], "n_sample": 32, **TRAINING[name]}
    train = small_sessions(*TRAINING_SESSIONS[settings.pop("data")])
    return settings, train, given_samples(TRAINING_STEPS, settings["n_sample"], train.n_items)


# Schedules: sessions' lengths and start times; events are numbered through.
SCHEDULES: dict[str, dict[str, Any]] = {
    "tail": {
        "lengths": [3, 2, 5, 2, 4, 2, 3, 9, 2, 2, 6],
        "starts": [5, 1, 9, 3, 2, 30, 31, 8, 40, 41, 42],
        "lanes": 4,
    },
    "one_lane": {"lengths": [3, 2, 4], "starts": [2, 3, 1], "lanes": 1},
    "as_many_lanes_as_sessions": {"lengths": [2, 5, 3], "starts": [1, 2, 3], "lanes": 3},
    "random": {
        "lengths": (2 + (8 * uniform(11, 70) ** 2).astype(int)).tolist(),
        "starts": np.argsort(uniform(12, 70)).tolist(),
        "lanes": 7,
    },
    "single_events": {"lengths": [1, 3, 1, 1, 2, 4, 1, 2, 3, 1], "starts": list(range(10)), "lanes": 3},
}
