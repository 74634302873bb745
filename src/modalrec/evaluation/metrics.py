"""Metrics of a ranking, and how sure they are.

With the target at rank r and cut-off k: recall_k = [r <= k], ndcg_k = [r <= k] / log2(r + 1) (Jarvelin and Kekalainen
2002, the ideal gain of one target being 1), mrr_k = [r <= k] / r; each is averaged over the targets, which is over the
users where each has one. coverage_k is the share of the catalogue that appears in any list's first k.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.ranking import Ranking, TieMode

TIE_TOLERANCE = 0.001
"""Above this difference of recall_20 between the tie modes, scores are saturated and ranks are luck."""

DRAWS = 20_000_000
"""Numbers drawn at a time for an interval; bounds the memory, not their number."""


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
    """Every target's own recall, ndcg and mrr at a cut-off: three arrays [U].

    Raises:
        ValueError: The cut-off exceeds the length of the kept lists.
    """
    if k > ranking.top.items.shape[1]:
        raise ValueError(f"cut-off {k} exceeds the lists of {ranking.top.items.shape[1]} items that were kept")
    return _gains(ranking.ranks(ties), k)


def coverage(ranking: Ranking, k: int) -> float:
    """Share of the catalogue among the first k of all lists."""
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
    ranking: Ranking,
    metric: str,
    k: int,
    rng: np.random.Generator,
    *,
    than: Ranking | None = None,
    samples: int = 2000,
    ties: TieMode = "conservative",
) -> Interval:
    """Resamples the users with replacement, each with all of its targets, since those of one user are not independent.

    A user counts by its sum of gains and its number of targets alone; so resampling users is a multinomial draw over
    the distinct pairs of the two, exactly. With one target per user these are the ranks, cut at k + 1, and the draw
    costs the same for a hundred users or a hundred million.

    Args:
        ranking: The ranking to measure.
        metric: recall, ndcg or mrr.
        k: The cut-off.
        rng: Where the draws come from.
        than: Another ranking of the same targets: the interval is that of the difference, target by target.
        samples: Number of resamples.
        ties: How ties are ranked.

    Raises:
        ValueError: The two rankings are not of the same targets.
    """
    if not len(ranking):
        return Interval(0.0, 0.0)
    if than is not None and not ranking.same_targets(than):
        raise ValueError("a paired interval needs two rankings of the same targets")
    n_users = ranking.n_users
    one_each = n_users == len(ranking) and ties != "median"
    cells = _rank_cells if one_each else _user_cells
    gain_C, size_C, users_C = cells(ranking, than, metric, k, ties)
    means = []
    for begin in range(0, samples, step := max(1, DRAWS // len(gain_C))):
        draws_SC = rng.multinomial(n_users, users_C / n_users, size=min(step, samples - begin))
        means.append(draws_SC @ gain_C / (draws_SC @ size_C))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(low), float(high))


Cells = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]
"""[C] each: a user's sum of gains, its number of targets, and how many users have just these."""


def _rank_cells(ranking: Ranking, than: Ranking | None, metric: str, k: int, ties: TieMode) -> Cells:
    """One target per user: a cell a rank, or a pair of ranks."""
    gain = _gains(np.append(np.arange(1.0, k + 1), np.inf), k)[metric]
    cells = _cell(ranking, k, ties)
    if than is not None:
        cells = cells * (k + 1) + _cell(than, k, ties)
        gain = (gain[:, None] - gain[None, :]).ravel()
    return gain, np.ones(len(gain)), np.bincount(cells, minlength=len(gain)).astype(np.int64)


def _user_cells(ranking: Ranking, than: Ranking | None, metric: str, k: int, ties: TieMode) -> Cells:
    """Any number of targets per user: a cell a distinct pair of sum and number."""
    gains = _gains(ranking.ranks(ties), k)[metric]
    if than is not None:
        gains = gains - _gains(than.ranks(ties), k)[metric]
    users = np.unique(ranking.users, return_inverse=True)[1]
    # Sums of the same gains in another order differ in their last bits.
    pairs = np.stack([np.bincount(users, gains).round(12), np.bincount(users)], axis=1)
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    gain_C, size_C = distinct.T.astype(np.float64)
    return gain_C, size_C, counts.astype(np.int64)


def _cell(ranking: Ranking, k: int, ties: TieMode) -> NDArray[np.int64]:
    """[U] rank - 1 up to k - 1, and k for every miss."""
    return np.minimum(ranking.ranks(ties) - 1, k).astype(np.int64)


def _gains(ranks: NDArray[np.float64], k: int) -> dict[str, NDArray[np.float64]]:
    hit = ranks <= k
    return {"recall": hit.astype(np.float64), "ndcg": hit / np.log2(ranks + 1), "mrr": hit / ranks}
