"""One row of the results: a recommender ranked on a split, its metrics and its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation.metrics import Interval, bootstrap, gains_at, measure, tie_gap
from modalrec.evaluation.ranking import TIE_MODES, Ranking, TieMode

HEADLINE = "model"


@dataclass(frozen=True)
class Dropped:
    """What was taken out because its item has no train event.

    Attributes:
        events: Events of test users, of targets and histories.
        users: Users, or sessions, who lost all their targets.
    """

    events: int
    users: int


@dataclass(frozen=True)
class Result:
    """What was measured of one recommender.

    Attributes:
        role: model, an edge of a control, or a baseline.
        split: The split whose test part was ranked, such as leave_one_out or sessions.
        ranking: Ranks and lists of all targets.
        metrics: By bare name, such as `recall_10`.
        intervals: 95 % intervals over users: of recall and ndcg at 10 or at the primary metric's cut-off, and of that.
        tie_gap: See `metrics.tie_gap`, at the largest cut-off.
        cold_users: Users whose target is their first event: no history, so they cannot be ranked.
        users_without_train: Ranked users of whom training saw no event.
        targets_without_train: Ranked targets whose item has no train event.
        part: Empty for the headline's test part; `temporal`, or the name of a further test set.
        ties: How ties are ranked in the metrics and intervals.
        dropped: What was taken out before, where unseen items are dropped.
        warmth: Metrics of the targets whose item is warm, and of the cold ones; empty where none is cold.
        tie_modes: recall and mrr at the largest cut-off under every tie mode: `recall_20_median`.
    """

    role: str
    split: str
    ranking: Ranking
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    tie_gap: float
    cold_users: int
    users_without_train: int
    targets_without_train: int
    part: str = ""
    ties: TieMode = "conservative"
    dropped: Dropped | None = None
    tie_modes: dict[str, float] = field(default_factory=dict)
    warmth: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The role; on another test part, that part's name, before the role where it is not the model."""
        return row_name(self.role, self.part)

    @property
    def prefix(self) -> str:
        """What stands in front of the metrics' names."""
        return "" if self.name == HEADLINE else f"{self.name}_"

    @property
    def cutoff(self) -> int:
        """The k that intervals are of, and that a report speaks of."""
        return next(int(name.removeprefix("recall_")) for name in self.intervals if name.startswith("recall_"))

    @property
    def people(self) -> str:
        """What the owners of events are called."""
        return "sessions" if self.split.startswith("sessions") else "users"

    @property
    def several(self) -> bool:
        """Whether there are more targets than users."""
        return len(self.ranking) > self.ranking.n_users

    def flat(self) -> dict[str, float]:
        """All numbers of the row by full name."""
        numbers = self.metrics | self.tie_modes
        for metric, interval in self.intervals.items():
            numbers |= {f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        numbers |= {"tie_gap": self.tie_gap, "users": self.ranking.n_users, "cold_users": self.cold_users}
        numbers |= {"predictions": len(self.ranking)}
        numbers["users_without_train"] = self.users_without_train
        numbers["targets_without_train"] = self.targets_without_train
        for kind, found in self.warmth.items():
            numbers |= {f"{kind}_{name}": value for name, value in found.items()}
        if self.dropped is not None:
            numbers |= {"dropped_events": self.dropped.events, "dropped_sessions": self.dropped.users}
        return {self.prefix + name: float(value) for name, value in numbers.items()}


def row_name(role: str, part: str = "") -> str:
    """The name of a row; it is in front of the row's metrics, except for the headline's.

    Example:
        >>> row_name("popularity"), row_name("model", "day2"), row_name("popularity", "day2")
        ('popularity', 'day2', 'day2_popularity')
    """
    return role if not part else part if role == HEADLINE else f"{part}_{role}"


def summarise(
    role: str,
    ranking: Ranking,
    sequences: Sequences,
    cutoffs: Sequence[int],
    rng: np.random.Generator,
    samples: int,
    *,
    part: str = "",
    ties: TieMode = "conservative",
    primary: str = "",
    dropped: Dropped | None = None,
    cold_below: int = 1,
) -> Result:
    """Measures a ranking of test targets of `sequences`; items with fewer than `cold_below` train events are cold."""
    known = np.diff(sequences.train().offsets) > 0
    counts = sequences.train_counts()
    k = int(primary.rpartition("_")[2]) if primary else 10 if 10 in cutoffs else max(cutoffs)
    resampled = dict.fromkeys([f"recall_{k}", f"ndcg_{k}", primary])
    return Result(
        role=role,
        split=sequences.split_name,
        ranking=ranking,
        metrics=measure(ranking, cutoffs, ties),
        intervals={
            name: bootstrap(ranking, metric, int(at), rng, samples=samples, ties=ties)
            for name in resampled
            for metric, _, at in [name.partition("_")]
            if metric in ("recall", "ndcg", "mrr")
        },
        tie_gap=tie_gap(ranking, max(cutoffs)),
        cold_users=sequences.cold_users(TEST),
        users_without_train=int((~known[np.unique(ranking.users)]).sum()),
        targets_without_train=int((counts[ranking.targets] == 0).sum()),
        part=part,
        ties=ties,
        dropped=dropped,
        tie_modes=_all_tie_modes(ranking, max(cutoffs)) if role == HEADLINE else {},
        warmth=_by_warmth(ranking, counts[ranking.targets] < cold_below, cutoffs, ties),
    )


def _by_warmth(
    ranking: Ranking, cold: NDArray[np.bool_], cutoffs: Sequence[int], ties: TieMode
) -> dict[str, dict[str, float]]:
    """Metrics and numbers of the warm and of the cold targets, each averaged over its own; nothing if none is cold."""
    if not cold.any():
        return {}
    kinds = {kind: which for kind, which in (("warm", ~cold), ("cold", cold)) if which.any()}
    found: dict[str, dict[str, float]] = {kind: {"predictions": int(which.sum())} for kind, which in kinds.items()}
    for k in cutoffs:
        for name, values in gains_at(ranking, k, ties).items():
            for kind, which in kinds.items():
                found[kind][f"{name}_{k}"] = float(values[which].mean())
    return found


def _all_tie_modes(ranking: Ranking, k: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for ties in TIE_MODES:
        gains = gains_at(ranking, k, ties)
        found |= {f"{name}_{k}_{ties}": float(np.sum(gains[name]) / max(len(ranking), 1)) for name in ("recall", "mrr")}
    return found
