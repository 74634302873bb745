"""K-means: on a CPU under bounds (`training.lloyd`), elsewhere on matrix products.

The nearest centre needs no distances: `|x - c|^2 = |x|^2 - 2 x.c + |c|^2`, and `|x|^2` is the same for every centre, so
one matrix product per iteration ranks them. Seeds: Arthur and Vassilvitskii, "k-means++: The Advantages of Careful
Seeding" (2007), in its greedy form, which keeps the best of several candidates.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from modalrec import compiled
from modalrec.training.balance import balanced as balanced_labels
from modalrec.training.lloyd import lloyd

# N points, D dimensions, V centres, T candidates of one seeding step.

BLOCK_ROWS = 16_384
CACHED_ROWS = 512
LARGEST_BOUNDS = 2**26
"""Bounds that k-means keeps at most, 256 MiB; beyond, every iteration computes all distances, block by block."""
SEEDING_ROWS_PER_CENTRE = 16
"""Seeds are drawn among so many random points per centre: within 0.6 % of scikit-learn's inertia; 4 are 2 % off."""

BALANCED_ITERATIONS = 20


@dataclass(frozen=True)
class KMeans:
    """A clustering.

    Attributes:
        centres_VD: The centres, float32.
        labels_N: The nearest centre of each point, the first one where several are as near, int64.
        inertia: Sum over the points of the squared distance to their centre.
    """

    centres_VD: Tensor
    labels_N: Tensor
    inertia: float


def kmeans(
    points_ND: Tensor,
    n_centres: int,
    *,
    generator: torch.Generator | None = None,
    iterations: int = 300,
    tolerance: float = 1e-4,
    balanced: bool = False,
) -> KMeans:
    """Clusters points; the same generator state gives the same bits on a CPU.

    Where there are fewer distinct points than centres, every point gets a centre of its own, and the spare centres
    repeat points.

    Args:
        points_ND: At least one point, finite, float32.
        n_centres: V, may exceed N.
        generator: A CPU generator for the seeds, torch's global one by default.
        iterations: At most this many of Lloyd's iterations (scikit-learn's `max_iter`).
        tolerance: Stop when the squared movements of all centres sum to at most this share of the mean variance of a
            dimension (scikit-learn's `tol`).
        balanced: No cluster has more than ceil(N / V) points. Labels are then not always the nearest centre's, and all
            distances [N, V] are in memory at once.
    """
    if balanced:
        return _balanced(points_ND, n_centres, generator, iterations)
    mean_D = points_ND.mean(0)
    centred_ND = points_ND - mean_D  # the product form loses digits when points lie far from the origin
    if _takes_bounds(centred_ND, n_centres):
        found = lloyd(centred_ND.numpy(), n_centres, generator, iterations, tolerance)
        centres_VD, labels_N = map(torch.from_numpy, found)
        if len(centres_VD.unique(dim=0)) < n_centres:
            labels_N, _ = nearest(centred_ND, centres_VD)
    else:
        centres_VD = _plain(centred_ND, n_centres, generator, iterations, tolerance)
        labels_N, _ = nearest(centred_ND, centres_VD)
    inertia = sum(
        float((block - centres_VD[labels]).pow_(2).sum(1).double().sum())
        for block, labels in zip(centred_ND.split(BLOCK_ROWS), labels_N.split(BLOCK_ROWS), strict=True)
    )
    return KMeans(centres_VD + mean_D, labels_N, inertia)


def _takes_bounds(points_ND: Tensor, n_centres: int) -> bool:
    plain = points_ND.device.type == "cpu" and points_ND.dtype == torch.float32 and not points_ND.requires_grad
    return compiled.AVAILABLE and plain and 4 * n_centres <= len(points_ND) <= LARGEST_BOUNDS // n_centres


def _plain(
    points_ND: Tensor, n_centres: int, generator: torch.Generator | None, iterations: int, tolerance: float
) -> Tensor:
    """Lloyd's iterations by one matrix product each, on any device and for few points."""
    centres_VD = _seeds(points_ND, n_centres, generator)
    limit = tolerance * float(points_ND.var(0, correction=0).mean())
    for _ in range(iterations):
        labels_N, scores_N = nearest(points_ND, centres_VD)
        moved_VD = _means(points_ND, labels_N, scores_N, centres_VD)
        shift = float((moved_VD - centres_VD).pow(2).sum())
        centres_VD = moved_VD
        if shift <= limit:
            break
    return centres_VD


def _balanced(points_ND: Tensor, n_centres: int, generator: torch.Generator | None, iterations: int) -> KMeans:
    """Lloyd's iterations with balanced labels; they may circle, so the best ones are kept."""
    found = kmeans(points_ND, n_centres, generator=generator, iterations=iterations)
    centres_VD, best = found.centres_VD, KMeans(found.centres_VD, found.labels_N, math.inf)
    for _ in range(min(iterations, BALANCED_ITERATIONS)):
        labels_N = balanced_labels(torch.cdist(points_ND, centres_VD).square())
        centres_VD = _means(points_ND, labels_N, None, centres_VD)
        inertia = float((points_ND - centres_VD[labels_N]).double().pow(2).sum())
        if inertia >= best.inertia:
            break
        best = KMeans(centres_VD, labels_N, inertia)
    return best


def nearest(points_ND: Tensor, centres_VD: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each point [N], and its squared distance less the point's squared norm [N].

    Works in blocks of rows, so that memory does not grow with N x V.
    """
    norms_V = centres_VD.pow(2).sum(1)
    if points_ND.device.type == "cpu" and points_ND.dtype == torch.float32:
        return _nearest_on_cpu(points_ND.detach(), centres_VD.detach(), norms_V.detach())
    blocks = [torch.addmm(norms_V, block, centres_VD.T, alpha=-2).min(1) for block in points_ND.split(BLOCK_ROWS)]
    return torch.cat([block.indices for block in blocks]), torch.cat([block.values for block in blocks])


def _nearest_on_cpu(points_ND: Tensor, centres_VD: Tensor, norms_V: Tensor) -> tuple[Tensor, Tensor]:
    """By numpy, whose least of a row is found five times as fast as torch's."""
    labels_N = np.empty(len(points_ND), np.int64)
    scores_N = np.empty(len(points_ND), np.float32)
    points, keys_DV, norms = points_ND.numpy(), centres_VD.numpy().T, norms_V.numpy()
    for begin in range(0, len(points), CACHED_ROWS):
        scores = (-2 * points[begin : begin + CACHED_ROWS]) @ keys_DV
        scores += norms
        labels = scores.argmin(1)
        labels_N[begin : begin + CACHED_ROWS] = labels
        scores_N[begin : begin + CACHED_ROWS] = np.take_along_axis(scores, labels[:, None], 1)[:, 0]
    return torch.from_numpy(labels_N), torch.from_numpy(scores_N)


def _seeds(points_ND: Tensor, n_centres: int, generator: torch.Generator | None) -> Tensor:
    """Greedy k-means++: each next centre is the candidate that leaves the least inertia, drawn by squared distance."""
    rows = min(len(points_ND), SEEDING_ROWS_PER_CENTRE * n_centres)
    if rows < len(points_ND):
        points_ND = points_ND[torch.randperm(len(points_ND), generator=generator)[:rows].to(points_ND.device)]
    candidates = 2 + int(math.log(n_centres))
    draws_VT = torch.rand(n_centres, candidates, generator=generator, dtype=torch.float64).to(points_ND.device)
    norms_N = points_ND.pow(2).sum(1)
    first = (draws_VT[0, :1] * rows).long().clamp_(max=rows - 1)
    gaps_N = _squared_distances(points_ND, norms_N, first)[0]
    chosen = [first[0]]
    for draws_T in draws_VT[1:]:
        mass_N = gaps_N.cumsum(0, dtype=torch.float64)
        picks_T = torch.searchsorted(mass_N, draws_T * mass_N[-1], right=True).clamp_(max=rows - 1)
        gaps_TN = torch.minimum(gaps_N, _squared_distances(points_ND, norms_N, picks_T))
        best = gaps_TN.sum(1).argmin()
        chosen.append(picks_T[best])
        gaps_N = gaps_TN[best]
    return points_ND[torch.stack(chosen)]


def _squared_distances(points_ND: Tensor, norms_N: Tensor, picks_T: Tensor) -> Tensor:
    """From each pick to each point [T, N], exactly zero to itself."""
    distances_TN = torch.addmm(norms_N, points_ND[picks_T], points_ND.T, alpha=-2).add_(norms_N[picks_T, None])
    return distances_TN.clamp_(min=0).scatter_(1, picks_T[:, None], 0)


def _means(points_ND: Tensor, labels_N: Tensor, scores_N: Tensor | None, centres_VD: Tensor) -> Tensor:
    """The mean of each cluster; an empty one takes the point that is farthest from its centre, or stays."""
    sums_VD = torch.zeros_like(centres_VD).index_add_(0, labels_N, points_ND)
    counts_V = torch.bincount(labels_N, minlength=len(centres_VD))
    means_VD = sums_VD / counts_V.clamp(min=1)[:, None]
    empty = (counts_V == 0).nonzero()[:, 0]
    if len(empty) and scores_N is None:
        means_VD[empty] = centres_VD[empty]
    elif len(empty) and scores_N is not None:
        far = (scores_N + points_ND.pow(2).sum(1)).topk(min(len(empty), len(points_ND))).indices
        means_VD[empty] = centres_VD[empty]
        means_VD[empty[: len(far)]] = points_ND[far]
    return means_VD
