"""Batches: what a training loop asks of its data, so that a resumed run sees the same ones."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Batches(ABC):
    """An epoch of training data, planned first and built batch by batch.

    Both methods depend on their arguments and the data alone: no state, so resuming at any step is exact.
    """

    @abstractmethod
    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The indices of each batch of an epoch, in order."""

    @abstractmethod
    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Any:
        """One batch, on the CPU; random perturbations derive from (seed, epoch, step)."""

    def apart(self, count: int) -> "Batches":
        """These batches for groups of `count`, none of which may need what another one of its group has left behind."""
        return self


def shuffled_plan(n: int, batch_size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """All of `range(n)` in random order, cut into batches; the last one may be smaller."""
    return cut_into(rng.permutation(n), batch_size)


def cut_into(order: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Batches in this order; the last one may be smaller."""
    return [order[begin : begin + batch_size] for begin in range(0, len(order), batch_size)]


def plan_by_length(
    lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator, pool: int = 32
) -> list[NDArray[np.int64]]:
    """Rows in random order, sorted by length inside pools of `pool` batches, the batches shuffled again.

    Rows of a batch are then of about one length, so that little is padded, and batches still come in random order.
    """
    order = rng.permutation(len(lengths))
    pooled = order[np.lexsort((lengths[order], np.arange(len(order)) // (batch_size * pool)))]
    batches = cut_into(pooled, batch_size)
    return [batches[place] for place in rng.permutation(len(batches))]
