"""Batches of plain vectors, for models that learn from items alone."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.run import Run
from modalrec.training.batches import Batches, shuffled_plan


class VectorBatches(Batches):
    """All vectors once an epoch, in an order that depends on the seed and the epoch.

    Args:
        vectors_ND: The vectors, kept in memory.
        batch_size: Rows of a batch.
        run: Gives the order.
    """

    def __init__(self, vectors_ND: Tensor, batch_size: int, run: Run) -> None:
        self.vectors_ND = vectors_ND
        self.batch_size = batch_size
        self.run = run

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The rows of each batch."""
        return shuffled_plan(len(self.vectors_ND), self.batch_size, self.run.rng("vectors", epoch))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Tensor:
        """The vectors of a batch [N, D]."""
        return self.vectors_ND.index_select(0, torch.from_numpy(indices))
