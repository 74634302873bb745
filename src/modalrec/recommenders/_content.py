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

    Of whitened vectors the projection starts with the leading directions as they are, each with a deviation of `std`:
    items that are alike begin as neighbours.
    """

    mean: Tensor
    directions: Tensor
    vectors: Tensor

    def __init__(
        self, vectors_NV: NDArray[np.float32], width: int, *, std: float, whiten: bool = True, dropout: float = 0.0
    ) -> None:
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
        nn.init.zeros_(self.projection.bias)
        if whiten:
            nn.init.eye_(self.projection.weight).data.mul_(std)
        else:
            nn.init.normal_(self.projection.weight, std=std)

    def forward(self, items: Tensor | slice) -> Tensor:
        """Projected vectors [..., D] of items."""
        projected: Tensor = self.projection(self.dropout(self.vectors[items]))
        return projected

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Takes over the whitening among the weights, and how many directions it has."""
        mean, directions = state.get(f"{prefix}mean"), state.get(f"{prefix}directions")
        if self.whiten and mean is not None and directions is not None and mean.shape == self.mean.shape:
            self._whiten_by(mean, directions)
        super()._load_from_state_dict(state, prefix, *rest)

    def _whiten_by(self, mean_V: Tensor, directions_VR: Tensor) -> None:
        device = self.directions.device
        mean_V, directions_VR = mean_V.to(device), directions_VR.to(device)
        if directions_VR.shape != self.directions.shape:
            self.directions = torch.empty_like(directions_VR)
            self.projection = nn.Linear(directions_VR.shape[1], self.projection.out_features, device=device)
        elif torch.equal(mean_V, self.mean) and torch.equal(directions_VR, self.directions):
            return
        white_NR = whitened(self.given_NV, Whitening(mean_V.cpu().numpy(), directions_VR.cpu().numpy()))
        self.vectors = torch.from_numpy(white_NR).to(device)


def whitening(vectors_NV: NDArray[np.float32], floor: float = 1e-4) -> Whitening:
    """What gives vectors [N, V] a mean of zero and unit variance in each principal direction, the largest ones first.

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
    kept = np.flatnonzero(variances > floor * variances.max())[::-1]
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
