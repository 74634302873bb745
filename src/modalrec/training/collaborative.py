"""Collaborative vectors: which items the same users choose, from train events alone.

Validation and test events never enter: `Sequences.train` is the first thing that happens, and an item without train
events has the vector zero.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds

from modalrec.data.sequences import Sequences
from modalrec.run import Run
from modalrec.training.vectors import Chosen, VectorBatches

# U users, N items, P length of the vectors.


def collaborative_vectors(sequences: Sequences, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Truncated SVD of the matrix of users and items, each entry over the roots of its row's and column's sums.

    Without that weighting the first vectors would tell popularity apart and little else.

    Args:
        sequences: Events under a split; only its train events are read.
        width: Length of the vectors, P; zeros fill up what a small matrix has not.
        seed: Of the iteration's start.

    Returns:
        [N, P] item vectors of length 1, or 0 for items without a train event.
    """
    train = sequences.train()
    users = np.repeat(np.arange(train.n_users), np.diff(train.offsets))
    seen_UN = csr_matrix((np.ones(len(train.items)), (users, train.items)), (train.n_users, train.n_items))
    seen_UN.data[:] = 1  # a repeated choice counts once
    per_user = np.maximum(np.asarray(seen_UN.sum(1)).ravel(), 1)
    per_item = np.maximum(np.asarray(seen_UN.sum(0)).ravel(), 1)
    seen_UN.data /= np.sqrt(np.repeat(per_user, np.diff(seen_UN.indptr)) * per_item[seen_UN.indices])
    found_NP = np.zeros((train.n_items, width), np.float32)
    rank = min(width, min(seen_UN.shape) - 1)
    if rank > 0 and seen_UN.nnz:
        start = np.random.default_rng(seed).standard_normal(min(seen_UN.shape))
        _, values, vectors = svds(seen_UN, k=rank, v0=start)
        order = np.argsort(-values)
        found_NP[:, :rank] = vectors[order].T * values[order]
    lengths = np.linalg.norm(found_NP, axis=1, keepdims=True)
    return np.divide(found_NP, lengths, out=np.zeros_like(found_NP), where=lengths > 1e-6)


class AlignedBatches(VectorBatches):
    """Batches of vectors with the collaborative vectors of the same items.

    Args:
        vectors_ND: The vectors.
        partners_NP: Collaborative vectors, zero where an item has none.
        batch_size: Rows of a batch.
        run: Gives the order.
    """

    def __init__(
        self,
        vectors_ND: Chosen | NDArray[np.float32],
        partners_NP: NDArray[np.float32],
        batch_size: int,
        run: Run,
    ) -> None:
        super().__init__(vectors_ND, batch_size, run)
        self.partners_NP = partners_NP

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Any:
        """`vectors` [N, D] and `partners` [N, P] of a batch."""
        partners_NP = torch.from_numpy(self.partners_NP[indices])
        return {"vectors": super().build(epoch, step, indices), "partners": partners_NP}
