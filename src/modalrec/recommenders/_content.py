"""Items' content vectors as a recommender takes them in: whitened, then brought to its width."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# N items, V width of a content vector, R leading directions, D width of the model.


class Whitening(NamedTuple):
    """What whitens vectors, in float32 as it is saved: the mean [V] and the scaled directions [V, R]."""

    mean_V: NDArray[np.float32]
    directions_VR: NDArray[np.float32]


class Content(nn.Module):
    """A learnt projection of fixed content vectors.

    Encoders give vectors that crowd around one direction, so that inner products hardly tell items apart; whitening
    makes all directions count alike (Zhang et al. 2024, arXiv 2402.17152).

    The directions are those of the catalogue and their order and sign mean nothing elsewhere, so they belong to the
    weights: whoever loads them, for this catalogue or another, whitens as the projection has learnt it.
    """

    mean: Tensor
    directions: Tensor
    vectors: Tensor

    def __init__(self, vectors_NV: NDArray[np.float32], width: int, *, whiten: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.given_NV, self.whiten = vectors_NV, whiten
        if whiten:
            found = whitening(vectors_NV)
            self.register_buffer("mean", torch.from_numpy(found.mean_V))
            self.register_buffer("directions", torch.from_numpy(found.directions_VR))
            vectors_NV = whitened(vectors_NV, found)
        self.register_buffer("vectors", torch.from_numpy(vectors_NV), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(vectors_NV.shape[1], width)

    def forward(self, items: Tensor | slice) -> Tensor:
        """Projected vectors [..., D] of items."""
        projected: Tensor = self.projection(self.dropout(self.vectors[items]))
        return projected

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes over the whitening among the weights, and how many directions it has."""
        mean, directions = state.get(f"{prefix}mean"), state.get(f"{prefix}directions")
        same_width = mean is not None and directions is not None and mean.shape == self.given_NV.shape[1:]
        if self.whiten and same_width and not self._whitens_by(mean, directions):
            device, width = self.directions.device, self.projection.out_features
            if directions.shape != self.directions.shape:
                self.directions = torch.empty_like(directions, device=device)
                self.projection = nn.Linear(directions.shape[1], width, device=device)
            white_NR = whitened(self.given_NV, Whitening(mean.cpu().numpy(), directions.cpu().numpy()))
            self.vectors = torch.from_numpy(white_NR).to(device)
        super()._load_from_state_dict(state, prefix, *rest)

    def _whitens_by(self, mean: Tensor, directions: Tensor) -> bool:
        same = directions.shape == self.directions.shape and torch.equal(mean.to(self.mean.device), self.mean)
        return same and torch.equal(directions.to(self.directions.device), self.directions)


def whitening(vectors_NV: NDArray[np.float32], floor: float = 1e-4) -> Whitening:
    """What gives vectors [N, V] a mean of zero and unit variance in each principal direction.

    Rows of zeros (no content) do not count; without two others everything stays as it is.

    Args:
        vectors_NV: [N, V].
        floor: Directions with less than this share of the largest one's variance are left out.
    """
    rows = vectors_NV[vectors_NV.any(1)].astype(np.float64)
    width = vectors_NV.shape[1]
    if len(rows) < 2:
        return Whitening(np.zeros(width, np.float32), np.eye(width, dtype=np.float32))
    mean_V = rows.mean(0)
    variances, directions_VV = np.linalg.eigh(np.atleast_2d(np.cov(rows - mean_V, rowvar=False)))
    kept = variances > floor * variances.max()
    scaled_VR = directions_VV[:, kept] / np.sqrt(variances[kept])
    return Whitening(mean_V.astype(np.float32), np.ascontiguousarray(scaled_VR, np.float32))


def whitened(vectors_NV: NDArray[np.float32], by: Whitening | None = None) -> NDArray[np.float32]:
    """Whitened vectors [N, R], by default by their own whitening; rows of zeros (no content) stay zero."""
    mean_V, directions_VR = by or whitening(vectors_NV)
    present_N = vectors_NV.any(1)
    white_NR = np.zeros((len(vectors_NV), directions_VR.shape[1]), np.float32)
    centred_NV = vectors_NV[present_N].astype(np.float64) - mean_V
    white_NR[present_N] = centred_NV @ directions_VR.astype(np.float64)
    return white_NR
