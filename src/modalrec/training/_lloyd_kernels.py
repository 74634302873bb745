"""The loops of k-means under bounds; see `lloyd`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import inlined, kernel

# N points, D dimensions, V centres, T candidates of one seeding step.

Array = NDArray[np.float32]

SPLIT_ITERATIONS = 4
OWN = np.float32(1e30)
"""Takes the place of the bound on the distance to a point's own centre, which is kept apart."""
SLACK = 1e-3
"""Bounds start this much lower, relative to the point's length, than a product in single precision says."""


@inlined
def _distance(points_ND: Array, n: int, centres_VD: Array, v: int) -> Any:
    total = np.float32(0)
    for d in range(points_ND.shape[1]):
        gap = points_ND[n, d] - centres_VD[v, d]
        total += gap * gap
    return np.sqrt(total)


@kernel
def keep_best(products_TN: Array, norms_N: Array, picks_T: NDArray[np.int64], gaps_N: Array) -> int:
    """Takes the candidate that leaves the least sum of gaps, and lowers the gaps to it."""
    best, least = 0, np.float32(np.inf)
    for t in range(len(picks_T)):
        own, total = norms_N[picks_T[t]], np.float32(0)
        for n in range(len(gaps_N)):
            gap = max(products_TN[t, n] + norms_N[n] + own, np.float32(0))
            total += min(gap, gaps_N[n])
        if total < least:
            best, least = t, total
    own = norms_N[picks_T[best]]
    for n in range(len(gaps_N)):
        gaps_N[n] = min(gaps_N[n], max(products_TN[best, n] + norms_N[n] + own, np.float32(0)))
    gaps_N[picks_T[best]] = 0
    return picks_T[best]


@kernel
def add_up(points_ND: Array, labels_N: NDArray[np.int64], sums_VD: NDArray[Any], counts_V: NDArray[np.int64]) -> None:
    for n in range(len(points_ND)):
        counts_V[labels_N[n]] += 1
        for d in range(points_ND.shape[1]):
            sums_VD[labels_N[n], d] += points_ND[n, d]


@kernel
def start(bounds_NV: Array, norms_N: Array, labels_N: NDArray[np.int64]) -> Array:
    """Turns scores into lower bounds, in place, and returns upper bounds on the distance to the nearest centre."""
    nearest_N = np.empty(len(norms_N), np.float32)
    for n in range(len(norms_N)):
        slack = np.float32(SLACK) * np.sqrt(norms_N[n])
        for v in range(bounds_NV.shape[1]):
            bounds_NV[n, v] = np.sqrt(max(bounds_NV[n, v] + norms_N[n], np.float32(0))) - slack
        nearest_N[n] = bounds_NV[n, labels_N[n]] + 2 * slack
        bounds_NV[n, labels_N[n]] = OWN
    return nearest_N


@kernel
def relabel(
    points_ND: Array,
    centres_VD: Array,
    drift_V: Array,
    labels_N: NDArray[np.int64],
    nearest_N: Array,
    bounds_NV: Array,
    sums_VD: NDArray[np.float64],
    counts_V: NDArray[np.int64],
) -> int:
    """One assignment after centres moved; keeps sums and counts, and returns how many labels changed."""
    changed = 0
    for n in range(len(points_ND)):
        least = OWN
        for v in range(len(drift_V)):
            bound = bounds_NV[n, v] - drift_V[v]
            bounds_NV[n, v] = bound
            least = min(least, bound)
        first = labels_N[n]
        nearest_N[n] += drift_V[first]
        if least >= nearest_N[n]:
            continue
        label, distance = first, _distance(points_ND, n, centres_VD, first)
        for v in range(len(drift_V)):
            if bounds_NV[n, v] < distance:
                other = _distance(points_ND, n, centres_VD, v)
                if other < distance:
                    bounds_NV[n, label] = distance
                    bounds_NV[n, v] = OWN
                    label, distance = v, other
                else:
                    bounds_NV[n, v] = other
        nearest_N[n] = distance
        if label != first:
            changed += 1
            labels_N[n] = label
            counts_V[first] -= 1
            counts_V[label] += 1
            for d in range(points_ND.shape[1]):
                sums_VD[first, d] -= points_ND[n, d]
                sums_VD[label, d] += points_ND[n, d]
    return changed


@kernel
def halves(
    points_ND: Array, centres_VD: Array, order: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Array]:
    """Splits each cluster in two by 2-means; which half each point is in, and what each split would gain."""
    dimension = points_ND.shape[1]
    upper_N = np.zeros(len(points_ND), np.bool_)
    gains_V = np.zeros(len(ends), np.float32)
    axis, above = np.empty(dimension, np.float32), np.empty(dimension, np.float32)
    begin = 0
    for v in range(len(ends)):
        size = ends[v] - begin
        far, farthest = begin, np.float32(-1)
        for place in range(begin, ends[v]):
            gap = _distance(points_ND, order[place], centres_VD, v)
            if gap > farthest:
                far, farthest = place, gap
        if size > 1 and farthest > 0:
            for d in range(dimension):
                axis[d] = points_ND[order[far], d] - centres_VD[v, d]
            middle = np.float32(0)
            for _ in range(SPLIT_ITERATIONS):
                above[:] = 0
                n_above = 0
                for place in range(begin, ends[v]):
                    n, dot = order[place], np.float32(0)
                    for d in range(dimension):
                        dot += (points_ND[n, d] - centres_VD[v, d]) * axis[d]
                    upper_N[n] = dot > middle
                    if dot > middle:
                        n_above += 1
                        for d in range(dimension):
                            above[d] += points_ND[n, d] - centres_VD[v, d]
                if n_above == 0 or n_above == size:
                    gains_V[v] = 0
                    break
                # The halves' means sum to zero about the centre: m_below = -n_above / n_below m_above.
                ratio = np.float32(size) / np.float32(size - n_above)
                square = np.float32(0)
                for d in range(dimension):
                    above[d] /= n_above
                    axis[d] = above[d] * ratio
                    square += above[d] * above[d]
                middle = (np.float32(1) - (ratio - np.float32(1))) * ratio * square / np.float32(2)
                gains_V[v] = n_above * ratio * square
        begin = ends[v]
    return upper_N, gains_V
