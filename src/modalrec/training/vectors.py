"""Plain vectors for models that learn from items alone: the chosen ones of arrays on disk, and batches of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.run import Run
from modalrec.training.batches import Batches, shuffled_plan

BLOCK_ROWS = 8192


class Chosen:
    """Some rows of several arrays, one array after the other; a row is read when it is asked for.

    Args:
        parts: Arrays [., D], in memory or on disk, each with the rows of it that are chosen.

    Attributes:
        shape: Number of all chosen rows N, and D.
    """

    def __init__(self, parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(rows) for _, rows in parts])
        self.shape = (int(self._ends[-1]), parts[0][0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """[M, D] the vectors at M places of the N."""
        if len(self._parts) == 1:  # copied once
            vectors, rows = self._parts[0]
            return vectors[rows[places]]
        part_M = np.searchsorted(self._ends, places, side="right")
        found_MD = np.empty((len(places), self.shape[1]), np.float32)
        for number, (vectors, rows) in enumerate(self._parts):
            here = part_M == number
            found_MD[here] = vectors[rows[places[here] - (self._ends[number] - len(rows))]]
        return found_MD

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yields all of them in order, some thousand at a time."""
        for begin in range(0, len(self), BLOCK_ROWS):
            yield self[np.arange(begin, min(begin + BLOCK_ROWS, len(self)))]

    def mean(self) -> NDArray[np.float32]:
        """[D] their mean, summed up in double precision."""
        total_D = sum(block.sum(0, dtype=np.float64) for block in self.blocks())
        return np.asarray(total_D / len(self), np.float32)


def every_row(vectors_ND: NDArray[np.float32]) -> Chosen:
    """An array with all of its rows."""
    return Chosen([(vectors_ND, np.arange(len(vectors_ND)))])


class VectorBatches(Batches):
    """All vectors once an epoch, in an order that depends on the seed and the epoch.

    Args:
        vectors_ND: The vectors.
        batch_size: Rows of a batch.
        run: Gives the order.
    """

    def __init__(self, vectors_ND: Chosen | NDArray[np.float32], batch_size: int, run: Run) -> None:
        self.vectors_ND = vectors_ND
        self.batch_size = batch_size
        self.run = run

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The rows of each batch."""
        return shuffled_plan(len(self.vectors_ND), self.batch_size, self.run.rng("vectors", epoch))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Tensor:
        """The vectors of a batch [N, D]."""
        return torch.from_numpy(self.vectors_ND[indices])
