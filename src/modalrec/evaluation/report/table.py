"""The table of metrics: one group a split, one row a recommender, a bar with its interval in each row."""

from dataclasses import dataclass

from modalrec.evaluation.report.words import size
from modalrec.evaluation.results import HEADLINE, Result

LABELS = {
    "model": ("Model", "the headline of this run"),
    "pretrained": ("Pre-trained only", "the model before finetuning"),
    "scratch": ("From scratch", "finetuned without pre-training"),
    "shuffled": ("Shuffled order", "trained and tested on histories in random order"),
    "item_knn": ("Item-KNN", "what followed the last ten items, in other histories"),
    "item_knn_content": ("Item-KNN and content", "item-KNN's score plus half of the content's"),
    "content_nn": ("Content", "what is most like the last item, by the cosine of the items' vectors"),
    "popularity": ("Popularity", "most train events, the same list for everyone"),
}
ORDER = ("model", "pretrained", "scratch", "item_knn", "item_knn_content", "content_nn", "popularity", "shuffled")
PROTOCOLS = {
    "leave_one_out": (
        "Leave-one-out",
        "each user's last event is the target. Usual, and leaky: other users' later events are in training.",
    ),
    "cold_items": (
        "Leave-one-out with new items",
        "each user's last event is the target; a share of the items has no train event, so that no model has met them.",
    ),
    "sessions": (
        "Sessions",
        "whole sessions, the latest ones, are for test; a history is what came before in the same session.",
    ),
    "temporal": (
        "Temporal",
        "one cut in time for everybody: training knows nothing of what comes after it. Another set of users and "
        "targets, so compare inside this group.",
    ),
}


@dataclass(frozen=True)
class Row:
    """One recommender.

    Attributes:
        bar: Start and width of the recall bar and its interval in per cent of the cell: end, low, high.
    """

    label: str
    explanation: str
    headline: bool
    values: list[str]
    best: list[bool]
    bar: tuple[float, float, float]
    value: str
    best_bar: bool


@dataclass(frozen=True)
class Group:
    """The rows of one test part; `size` tells how many users and targets."""

    name: str
    explanation: str
    size: str
    rows: list[Row]


@dataclass(frozen=True)
class Table:
    """Column names and groups."""

    columns: list[str]
    bar_column: str
    groups: list[Group]


def metric_table(results: dict[str, Result]) -> Table:
    """The rows in the order of reading, the best value of each column in a group marked."""
    k = results[HEADLINE].cutoff
    measured = results[HEADLINE].metrics
    wanted = ["recall_1", "recall_5", "recall_10", "recall_20", f"ndcg_{k}", f"mrr_{k}", f"coverage_{k}"]
    columns = [name for name in wanted if name in measured and name != f"recall_{k}"]
    top = max(interval.high for result in results.values() for interval in [result.intervals[f"recall_{k}"]])
    parts = dict.fromkeys(result.part for result in results.values())
    groups = [
        _group(sorted(rows, key=lambda result: ORDER.index(result.role)), columns, k, top or 1.0)
        for part in parts
        for rows in [[result for result in results.values() if result.part == part]]
    ]
    return Table(columns, f"recall_{k}", groups)


def _group(rows: list[Result], columns: list[str], k: int, top: float) -> Group:
    first = rows[0]
    name, explanation = _protocol(first)
    best = {column: max(result.metrics[column] for result in rows) for column in [f"recall_{k}", *columns]}
    return Group(name, explanation, size(first), [_row(result, columns, best, k, top) for result in rows])


def _protocol(result: Result) -> tuple[str, str]:
    """Name and explanation of a test part."""
    if result.split in PROTOCOLS:
        name, explanation = PROTOCOLS[result.split]
    else:
        base = result.split.removesuffix(f"_{result.part}")
        name, explanation = f"{PROTOCOLS[base][0]}: {result.part}", "another test set beside the same training."
    if result.several:
        explanation += " Every event of the test part is a target, not only the last."
    return name, explanation


def _row(result: Result, columns: list[str], best: dict[str, float], k: int, top: float) -> Row:
    label, explanation = LABELS[result.role]
    if result.role == HEADLINE and result.part:
        explanation = "trained on the temporal split" if result.part == "temporal" else "the same model"
    interval = result.intervals[f"recall_{k}"]
    recall = result.metrics[f"recall_{k}"]
    return Row(
        label=label,
        explanation=explanation,
        headline=result.name == HEADLINE,
        values=[f"{result.metrics[column]:.3f}" for column in columns],
        best=[result.metrics[column] == best[column] > 0 for column in columns],
        bar=(100 * recall / top, 100 * interval.low / top, 100 * interval.high / top),
        value=f"{recall:.3f}",
        best_bar=recall == best[f"recall_{k}"] > 0,
    )
