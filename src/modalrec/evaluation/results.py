"""One row of the results: a recommender ranked on a split, its metrics and its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation.metrics import Interval, bootstrap, measure, tie_gap
from modalrec.evaluation.ranking import Ranking

HEADLINE = "model"


@dataclass(frozen=True)
class Result:
    """What was measured of one recommender.

    Attributes:
        name: `model` for the headline; other rows' names are in front of their metrics, as in `popularity_recall_10`.
        split: leave_one_out or temporal.
        ranking: Ranks and lists of all ranked users.
        metrics: By bare name, such as `recall_10`.
        intervals: 95 % intervals of recall_10 and ndcg_10 over users.
        tie_gap: See `metrics.tie_gap`, at the largest cut-off.
        cold_users: Users whose target is their first event: no history, so they cannot be ranked.
        users_without_train: Ranked users of whom training saw no event.
        targets_without_train: Ranked users whose target has no train event.
    """

    name: str
    split: str
    ranking: Ranking
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    tie_gap: float
    cold_users: int
    users_without_train: int
    targets_without_train: int

    @property
    def prefix(self) -> str:
        """What stands in front of the metrics' names."""
        return "" if self.name == HEADLINE else f"{self.name}_"

    def flat(self) -> dict[str, float]:
        """All numbers of the row by full name."""
        numbers = dict(self.metrics)
        for metric, interval in self.intervals.items():
            numbers |= {f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        numbers |= {"tie_gap": self.tie_gap, "users": len(self.ranking), "cold_users": self.cold_users}
        numbers["users_without_train"] = self.users_without_train
        numbers["targets_without_train"] = self.targets_without_train
        return {self.prefix + name: float(value) for name, value in numbers.items()}


def summarise(
    name: str, ranking: Ranking, sequences: Sequences, cutoffs: Sequence[int], rng: np.random.Generator, samples: int
) -> Result:
    """Measures a ranking of the test targets of `sequences`."""
    known = np.diff(sequences.train().offsets) > 0
    counts = sequences.train_counts()
    k = 10 if 10 in cutoffs else max(cutoffs)
    return Result(
        name=name,
        split=sequences.split_name,
        ranking=ranking,
        metrics=measure(ranking, cutoffs),
        intervals={
            f"{metric}_{k}": bootstrap(ranking, metric, k, rng, samples=samples) for metric in ("recall", "ndcg")
        },
        tie_gap=tie_gap(ranking, max(cutoffs)),
        cold_users=sequences.cold_users(TEST),
        users_without_train=int((~known[ranking.users]).sum()),
        targets_without_train=int((counts[ranking.targets] == 0).sum()),
    )
