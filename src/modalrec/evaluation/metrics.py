"""Metrics of a ranking with one target per user, and how sure they are.

With the target at rank r and cut-off k: recall_k = [r <= k], ndcg_k = [r <= k] / log2(r + 1) (Jarvelin and Kekalainen
2002, the ideal gain of one target being 1), mrr_k = [r <= k] / r; each is averaged over the users. coverage_k is the
share of the catalogue that appears in any user's first k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.ranking import Ranking, TieMode

TIE_TOLERANCE = 0.001
"""Above this difference of recall_20 between the tie modes, scores are saturated and ranks are luck."""


def measure(
    ranking: Ranking, cutoffs: Sequence[int] = (1, 5, 10, 20), ties: TieMode = "conservative"
) -> dict[str, float]:
    """All metrics at all cut-offs by name, such as `ndcg_10`; zeros where no user could be ranked.

    Raises:
        ValueError: A cut-off exceeds the length of the kept lists.
    """
    found: dict[str, float] = {}
    for k in cutoffs:
        gains = gains_at(ranking, k, ties)
        found |= {f"{name}_{k}": float(values.mean()) if len(values) else 0.0 for name, values in gains.items()}
        found[f"coverage_{k}"] = coverage(ranking, k)
    return found


def gains_at(ranking: Ranking, k: int, ties: TieMode = "conservative") -> dict[str, NDArray[np.float64]]:
    """Every user's own recall, ndcg and mrr at a cut-off: three arrays [U]."""
    if k > ranking.top.items.shape[1]:
        raise ValueError(f"cut-off {k} exceeds the lists of {ranking.top.items.shape[1]} items that were kept")
    return _gains(ranking.ranks(ties), k)


def coverage(ranking: Ranking, k: int) -> float:
    """Share of the catalogue among all users' first k."""
    listed = ranking.top.items[:, :k]
    return len(np.unique(listed[listed >= 0])) / max(ranking.n_items, 1)


def tie_gap(ranking: Ranking, k: int = 20) -> float:
    """How much of recall_k depends on the order of equal scores: standard minus conservative."""
    if not len(ranking):
        return 0.0
    return float((ranking.ranks("standard") <= k).mean() - (ranking.ranks("conservative") <= k).mean())


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval of a metric over resampled users."""

    low: float
    high: float


def bootstrap(
    ranking: Ranking, metric: str, k: int, rng: np.random.Generator, *, than: Ranking | None = None, samples: int = 2000
) -> Interval:
    """Resamples the users with replacement.

    A user counts by the ranks alone, cut at k + 1; so resampling users is a multinomial draw over the histogram of
    ranks, exactly, and costs the same for a hundred users or a hundred million.

    Args:
        ranking: The ranking to measure.
        metric: recall, ndcg or mrr.
        k: The cut-off.
        rng: Where the draws come from.
        than: Another ranking of the same targets: the interval is that of the difference, user by user.
        samples: Number of resamples.

    Raises:
        ValueError: The two rankings are not of the same targets.
    """
    if not len(ranking):
        return Interval(0.0, 0.0)
    places = np.append(np.arange(1.0, k + 1), np.inf)
    gain = _gains(places, k)[metric]
    cells = _cell(ranking, k)
    if than is not None:
        if not (np.array_equal(ranking.users, than.users) and np.array_equal(ranking.targets, than.targets)):
            raise ValueError("a paired interval needs two rankings of the same targets")
        cells = cells * (k + 1) + _cell(than, k)
        gain = (gain[:, None] - gain[None, :]).ravel()
    counts = np.bincount(cells, minlength=len(gain))
    means = rng.multinomial(len(ranking), counts / len(ranking), size=samples) @ gain / len(ranking)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))


def _cell(ranking: Ranking, k: int) -> NDArray[np.int64]:
    """[U] rank - 1 up to k - 1, and k for every miss."""
    return np.minimum(ranking.ranks() - 1, k).astype(np.int64)


def _gains(ranks: NDArray[np.float64], k: int) -> dict[str, NDArray[np.float64]]:
    hit = ranks <= k
    return {"recall": hit.astype(np.float64), "ndcg": hit / np.log2(ranks + 1), "mrr": hit / ranks}
