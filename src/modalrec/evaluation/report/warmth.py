"""The table of warm and cold items: what a recommender is worth where training has seen little of an item, or none."""

from dataclasses import dataclass

from modalrec.evaluation.report.table import LABELS, ORDER
from modalrec.evaluation.results import HEADLINE, Result

KINDS = ("warm", "cold")


@dataclass(frozen=True)
class WarmthRow:
    """A recommender's metrics, warm ones first, and which are the best of their column."""

    label: str
    headline: bool
    values: list[str]
    best: list[bool]


@dataclass(frozen=True)
class Warmth:
    """The table, and how many targets are warm and cold."""

    columns: list[str]
    targets: dict[str, int]
    rows: list[WarmthRow]


def warmth_table(results: dict[str, Result]) -> Warmth | None:
    """Metrics of the headline's test part by warmth; nothing where its targets are all warm, or all cold."""
    headline = results[HEADLINE]
    if headline.warmth.keys() != {*KINDS}:
        return None
    k = headline.cutoff
    metrics = [f"recall_{k}", f"ndcg_{k}"]
    shown = sorted((one for one in results.values() if not one.part), key=lambda result: ORDER.index(result.role))
    shown = [result for result in shown if result.warmth.keys() == {*KINDS}]
    table = [[result.warmth[kind][name] for kind in KINDS for name in metrics] for result in shown]
    best = [max(column) for column in zip(*table, strict=True)]
    return Warmth(
        columns=[f"{kind} {name}" for kind in KINDS for name in metrics],
        targets={kind: int(headline.warmth[kind]["predictions"]) for kind in KINDS},
        rows=[
            WarmthRow(
                LABELS[result.role][0],
                result.name == HEADLINE,
                [f"{value:.3f}" for value in values],
                [value == highest > 0 for value, highest in zip(values, best, strict=True)],
            )
            for result, values in zip(shown, table, strict=True)
        ],
    )
