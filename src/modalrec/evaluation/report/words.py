"""What the report says in words: every sentence follows from the numbers, also where they do not flatter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.metrics import TIE_TOLERANCE, Interval, bootstrap
from modalrec.evaluation.ranking import TieMode
from modalrec.evaluation.results import HEADLINE, Result
from modalrec.plugins import discover
from modalrec.run import Run

TIES: dict[TieMode, str] = {
    "conservative": "ties are conservative: the target comes after its equals",
    "standard": "ties are standard: the target comes before its equals",
    "median": "ties are median: the target comes in the middle of its equals",
    "tiebreaking": "ties are broken at random: the target comes anywhere among its equals",
}


@dataclass(frozen=True)
class Comparison:
    """The model against another row of the same targets.

    Attributes:
        ours: recall of the model.
        theirs: recall of the other.
        difference: 95 % interval of ours - theirs, over the same resampled users.
    """

    ours: float
    theirs: float
    difference: Interval

    @property
    def outcome(self) -> str:
        """better, worse, or within chance."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "within chance"


def compare(results: dict[str, Result], run: Run, samples: int) -> dict[str, Comparison]:
    """The model against every row measured on the same targets, by name."""
    model = results[HEADLINE]
    k = model.cutoff
    return {
        name: Comparison(
            model.metrics[f"recall_{k}"],
            other.metrics[f"recall_{k}"],
            bootstrap(
                model.ranking,
                "recall",
                k,
                run.rng("paired", name),
                than=other.ranking,
                samples=samples,
                ties=model.ties,
            ),
        )
        for name, other in results.items()
        if name != HEADLINE and not other.part
    }


def size(result: Result) -> str:
    """How many were ranked, for people: `12,345 targets of 4,321 sessions`."""
    owners = f"{result.ranking.n_users:,} {result.people}"
    return f"{len(result.ranking):,} targets of {owners}" if result.several else owners


def title(manifests: dict[str, Manifest]) -> str:
    """Names the model and the data."""
    recommender = manifests["model"].config.get("recommender") or {}
    source = manifests["dataset"].config.get("source") or {}
    data = source.get("name") if isinstance(source, dict) else source
    name = recommender.get("name", "model")
    model = discover("recommenders").get(name)
    return f"{getattr(model, 'title', '') or name} on {data or 'the dataset'}".replace("_", " ")


def verdict(results: dict[str, Result], comparisons: dict[str, Comparison]) -> str:
    """One sentence: how good, beside popularity and item-KNN, and how sure."""
    model = results[HEADLINE]
    if not len(model.ranking):
        return f"None of the test {model.people} has a history, so nothing was measured."
    k = model.cutoff
    interval = model.intervals[f"recall_{k}"]
    against = [
        f"{_times(comparison)} {label}{_chance(comparison)}"
        for name, label in (("popularity", "popularity"), ("item_knn", "item-KNN"))
        if (comparison := comparisons.get(name)) is not None
    ]
    measured = f"recall_{k} is {model.metrics[f'recall_{k}']:.3f} (95 % interval {_range(interval)})"
    return f"{measured}: {' and '.join(against)}." if against else f"{measured}."


def cards(result: Result, metrics: dict[str, float]) -> list[tuple[str, str, str]]:
    """Name, value and remark of the numbers at the top."""
    k = result.cutoff
    shown = [
        *((name, f"{result.metrics[name]:.3f}", _range(interval)) for name, interval in result.intervals.items()),
        (f"coverage_{k}", f"{100 * result.metrics[f'coverage_{k}']:.0f} %", f"of {result.ranking.n_items:,} items"),
        (
            f"test {result.people}",
            f"{result.ranking.n_users:,}",
            f"{len(result.ranking):,} targets" if result.several else f"{result.cold_users:,} more without history",
        ),
    ]
    if result.dropped is not None:
        shown.append(("dropped", f"{result.dropped.events:,}", "test events of items without a train event"))
    if "beam_agreement_10" in metrics:
        agreement = metrics["beam_agreement_10"]
        shown.append(("beam agreement", f"{100 * agreement:.0f} %", "of the exhaustive top 10 found"))
    return shown


def warnings(results: dict[str, Result]) -> list[str]:
    """What a reader must know before believing the numbers."""
    said = []
    for name, result in results.items():
        if result.tie_gap > TIE_TOLERANCE:
            said.append(
                f"{name.replace('_', ' ')}: the order of equal scores decides {100 * result.tie_gap:.2f} % of recall; "
                f"in these numbers {TIES[result.ties]}."
            )
    return said


def remarks(
    results: dict[str, Result],
    comparisons: dict[str, Comparison],
    metrics: dict[str, float],
    dataset: Mapping[str, Any],
) -> list[str]:
    """Sentences on what was dropped, item-KNN, pre-training, order, time, further test sets and the search."""
    said = [_dropped(result) for result in results.values() if result.role == HEADLINE and result.dropped is not None]
    k = results[HEADLINE].cutoff
    for name, label in (("item_knn", "item-KNN"), ("item_knn_content", "item-KNN and content")):
        if knn := comparisons.get(name):
            said.append(f"Against {label}: {_told(knn, k)}{_KNN[knn.outcome]}")
    if scratch := comparisons.get("scratch"):
        told = _PRETRAINING[scratch.outcome].format(people=results[HEADLINE].people)
        said.append(f"With and without pre-training: {_told(scratch, k)}{told}")
    if shuffled := comparisons.get("shuffled"):
        said.append(f"With histories in their order and shuffled: {_told(shuffled, k)}{_ORDER[shuffled.outcome]}")
    if dataset.get("order_is_weak"):
        said.append(
            f"Order is weak in this data: {100 * dataset.get('equal_time_share', 0):.0f} % of a user's neighbouring "
            "events have the same time, so what looks like order may be how the events were entered. A model of "
            "sequences is on trial here, not at home."
        )
    if temporal := results.get("temporal"):
        said.append(_time(temporal, results, k))
    for result in results.values():
        if result.role == HEADLINE and result.part not in ("", "temporal"):
            recall = f"recall_{k} is {result.metrics[f'recall_{k}']:.3f}"
            said.append(
                f"On the further test set {result.part} {recall} (95 % interval "
                f"{_range(result.intervals[f'recall_{k}'])}) over {size(result)}."
            )
    if (agreement := metrics.get("beam_agreement_10")) is not None:
        said.append(
            f"The lists come from a beam search. On a sample of users it found {100 * agreement:.1f} % of the ten "
            "items that scoring every item finds."
        )
    people = results[HEADLINE].people
    said.append(
        f"All numbers are of one seed; the intervals tell the chance in the choice of {people}, not in training."
    )
    if results[HEADLINE].several:
        said[-1] += f" The {people} were resampled whole, since the targets of one are not independent."
    return said


_KNN = {
    "better": "The model is ahead of this baseline.",
    "worse": "The baseline, which trains in a second, is ahead: for accuracy alone the model is not worth training.",
    "within chance": "The two cannot be told apart here.",
}
_PRETRAINING = {
    "better": "Pre-training helps.",
    "worse": "Pre-training hurts here.",
    "within chance": "Whether pre-training helps cannot be told from these {people}.",
}
_ORDER = {
    "better": "The model uses the order of events.",
    "worse": "Shuffling helps: the order of these events misleads the model.",
    "within chance": "Shuffling does not measurably hurt: nothing shows that the model uses the order of events.",
}


def _dropped(result: Result) -> str:
    assert result.dropped is not None  # noqa: S101 (asked by the caller)
    where = f" of {result.part}" if result.part else ""
    return (
        f"{result.dropped.events:,} test events{where} were dropped before the ranking, since their item has no train "
        f"event, and {result.dropped.users:,} {result.people} had no target left. On the rest a model of item ids can "
        "be right; on these it cannot, so numbers that keep them are lower."
    )


def _time(temporal: Result, results: dict[str, Result], k: int) -> str:
    found = f"On the temporal split recall_{k} is {temporal.metrics[f'recall_{k}']:.3f}"
    baselines = [
        f"{label} {results[name].metrics[f'recall_{k}']:.3f}"
        for name, label in (("temporal_popularity", "popularity"), ("temporal_item_knn", "item-KNN"))
        if name in results
    ]
    beside = f" ({', '.join(baselines)})" if baselines else ""
    unknown = (
        f" over {size(temporal)}, {temporal.users_without_train:,} of them without an event before the "
        f"cuts; for {temporal.targets_without_train:,} the target has none; {temporal.cold_users:,} more users have no "
        "history at all and are left out."
    )
    return found + beside + unknown


def _told(comparison: Comparison, k: int) -> str:
    return (
        f"recall_{k} {comparison.ours:.3f} and {comparison.theirs:.3f}, difference "
        f"{comparison.ours - comparison.theirs:+.3f} (95 % interval {_range(comparison.difference, '+.3f')}). "
    )


def _times(comparison: Comparison) -> str:
    if not comparison.theirs:
        return "above zero of" if comparison.ours else "equal to the zero of"
    ratio = comparison.ours / comparison.theirs
    return f"{ratio:.1f} times" if ratio >= 1.5 else f"{ratio:.2f} {'times' if ratio >= 1 else 'of'}"


def _chance(comparison: Comparison) -> str:
    return " (a difference within chance)" if comparison.outcome == "within chance" else ""


def _range(interval: Interval, form: str = ".3f") -> str:
    return f"{interval.low:{form}} to {interval.high:{form}}"
