"""Several recommenders on the same targets: how sure their differences are, and for whom each is good.

A difference is measured user by user. Its interval comes from resampled users; its p-value from a paired t-test of the
users' means, which thousands of users make close to normal, corrected by Holm's method for the number of recommenders
that are compared with the same one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from modalrec.data.sequences import Sequences
from modalrec.evaluation.metrics import Interval, bootstrap, gains_at
from modalrec.evaluation.ranking import Ranking
from modalrec.evaluation.results import Result
from modalrec.run import Run

# U targets, N items.

SHORT, LONG = 5, 20
"""Histories up to the one are short, those above the other long."""


@dataclass(frozen=True)
class Difference:
    """A recommender less another one, of a metric.

    Attributes:
        value: The difference of the two means.
        interval: Its 95 % interval over users.
        p: The probability that chance alone makes a difference as large, corrected for all that are compared.
    """

    value: float
    interval: Interval
    p: float


def differences(
    results: Sequence[Result], than: Result, metric: str, k: int, run: Run, samples: int
) -> list[Difference | None]:
    """Every result less one of them; None for that one itself.

    Args:
        results: Rankings of the same targets.
        than: What they are compared with.
        metric: recall, ndcg or mrr.
        k: The cut-off.
        run: Where the draws come from.
        samples: Resamples of the users behind each interval.
    """
    others = [result for result in results if result is not than]
    corrected = dict(zip(map(id, others), holm([_p(one, than, metric, k) for one in others]), strict=True))
    found: list[Difference | None] = []
    for result in results:
        if result is than:
            found.append(None)
            continue
        name = f"{metric}_{k}"
        rng = run.rng("paired", result.name, than.name, name)
        interval = bootstrap(result.ranking, metric, k, rng, than=than.ranking, samples=samples, ties=result.ties)
        found.append(Difference(result.metrics[name] - than.metrics[name], interval, corrected[id(result)]))
    return found


def holm(ps: Sequence[float]) -> list[float]:
    """P-values corrected for their number: the i-th smallest of m times m - i + 1, never below a smaller one's (1979).

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(ps, kind="stable")
    scaled = np.maximum.accumulate(np.asarray(ps, float)[order] * np.arange(len(ps), 0, -1))
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(scaled, 1.0)
    return [float(p) for p in corrected]


def _p(one: Result, than: Result, metric: str, k: int) -> float:
    """Of a paired t-test over users, each with the mean over its targets."""
    gain = gains_at(one.ranking, k, one.ties)[metric] - gains_at(than.ranking, k, than.ties)[metric]
    _, user = np.unique(one.ranking.users, return_inverse=True)
    mean = np.bincount(user, gain) / np.bincount(user)
    if len(mean) < 2 or not mean.any():
        return 1.0
    return float(stats.ttest_1samp(mean, 0.0).pvalue) if mean.std() else 0.0


@dataclass(frozen=True)
class Slices:
    """Targets by one property: [U] flags of each kind that has any, by the kind's name."""

    name: str
    kinds: dict[str, NDArray[np.bool_]]


def slices(ranking: Ranking, sequences: Sequences, pictured_N: NDArray[np.bool_]) -> list[Slices]:
    """Targets by how often training saw the item, by the length of the history, and by whether there is a picture.

    Items in order of their train events: the head has a third of these events, the torso the next, the tail the last;
    new items have none.

    Args:
        ranking: Any recommender's; all are of the same targets.
        sequences: The events that the models were trained on.
        pictured_N: [N] whether an item has a picture of its own.
    """
    counts_N = sequences.train_counts()
    order = np.argsort(-counts_N, kind="stable")
    before = np.concatenate([[0], np.cumsum(counts_N[order])[:-1]]) / max(int(counts_N.sum()), 1)
    third_N = np.empty(len(counts_N), np.int64)
    third_N[order] = np.minimum((3 * before).astype(np.int64), 2)
    third_N[counts_N == 0] = 3
    third_U, pictured_U, length_U = third_N[ranking.targets], pictured_N[ranking.targets], ranking.positions
    found = [
        Slices("items", {name: third_U == n for n, name in enumerate(("head", "torso", "tail", "new"))}),
        Slices(
            "histories",
            {
                f"up to {SHORT}": length_U <= SHORT,
                f"{SHORT + 1} to {LONG}": (length_U > SHORT) & (length_U <= LONG),
                f"over {LONG}": length_U > LONG,
            },
        ),
        Slices("pictures", {"with": pictured_U, "without": ~pictured_U}),
    ]
    filled = [Slices(one.name, {name: which for name, which in one.kinds.items() if which.any()}) for one in found]
    return [one for one in filled if len(one.kinds) > 1]
