"""Items' content vectors as a recommender takes them in: whitened, then brought to its width."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# N items, V width of a content vector, R leading directions, D width of the model.


class Content(nn.Module):
    """A learnt projection of fixed content vectors.

    Encoders give vectors that crowd around one direction, so that inner products hardly tell items apart; whitening
    makes all directions count alike (Zhang et al. 2024, arXiv 2402.17152).
    """

    def __init__(self, vectors_NV: NDArray[np.float32], width: int, *, whiten: bool, dropout: float = 0.0) -> None:
        super().__init__()
        given = torch.from_numpy(whitened(vectors_NV) if whiten else vectors_NV)
        self.register_buffer("vectors", given, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(given.shape[1], width)

    def forward(self, items: Tensor | slice) -> Tensor:
        """Projected vectors [..., D] of items."""
        projected: Tensor = self.projection(self.dropout(self.vectors[items]))  # type: ignore[index]
        return projected


def whitened(vectors_NV: NDArray[np.float32], floor: float = 1e-4) -> NDArray[np.float32]:
    """Centred vectors with unit variance in each principal direction, [N, R]; rows of zeros (no content) stay zero.

    Args:
        vectors_NV: [N, V].
        floor: Directions with less than this share of the largest one's variance are left out.
    """
    present_N = vectors_NV.any(1)
    rows = vectors_NV[present_N].astype(np.float64)
    if len(rows) < 2:
        return vectors_NV
    mean_V = rows.mean(0)
    variances, directions_VV = np.linalg.eigh(np.cov(rows - mean_V, rowvar=False))
    kept = variances > floor * variances.max()
    scaled_VR = directions_VV[:, kept] / np.sqrt(variances[kept])
    white_NR = np.zeros((len(vectors_NV), kept.sum()), np.float32)
    white_NR[present_N] = (rows - mean_V) @ scaled_VR
    return white_NR
