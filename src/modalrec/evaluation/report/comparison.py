"""The report of a comparison: a table of all recommenders, what they cost, what content adds, for whom each is good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.comparison import Difference, Slices
from modalrec.evaluation.leakage import Leakage
from modalrec.evaluation.metrics import gains_at
from modalrec.evaluation.report import pages
from modalrec.evaluation.report.charts import scatter_chart
from modalrec.evaluation.report.details import origin
from modalrec.evaluation.report.figure import duration
from modalrec.evaluation.report.leakage import leakage_checks, leaks
from modalrec.evaluation.report.summary import Report, summary
from modalrec.evaluation.report.table import LABELS, PROTOCOLS
from modalrec.evaluation.report.words import TIES
from modalrec.evaluation.results import Result
from modalrec.run import Run

TRAINING = ("pretrain", "finetune")
ONE_SEED = (
    "Every model is of one seed: intervals and p-values tell the chance in the choice of {people}, not in training."
)


@dataclass(frozen=True)
class Entry:
    """A recommender of the comparison.

    Attributes:
        result: What was measured.
        model: How it was made; None for a baseline.
        modalities: What it knows of items.
    """

    result: Result
    model: Manifest | None = None
    modalities: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name for people."""
        return LABELS[self.result.role][0] if self.model is None else self.result.role

    @property
    def explanation(self) -> str:
        """What a baseline does, or what a model knows."""
        if self.model is None:
            return LABELS[self.result.role][1]
        return f"knows {' and '.join(self.modalities)}" if self.modalities else "clicks alone"

    @property
    def seconds(self) -> float:
        """Time of the model's training and pre-training."""
        if self.model is None:
            return 0.0
        costs = {self.model.digest: self.model.ancestor()} | self.model.lineage
        return sum(one.cost.get("seconds", 0.0) for one in costs.values() if one.stage in TRAINING)


@dataclass(frozen=True)
class ComparisonContents:
    """What the report is made from.

    Attributes:
        run: The stage's run.
        metric: What rows are ordered by, such as `ndcg_10`.
        split: Whose test part was ranked.
        leakage: What training and histories know of it.
        dataset: The dataset's manifest.
        entries: All rows, the best first.
        than: The row that the others are compared with: the best baseline.
        against: The difference of every entry to it.
        slices: The targets by their properties.
        manifests: The evaluations by the models' names.
    """

    run: Run
    metric: str
    split: str
    leakage: Leakage
    dataset: Manifest
    entries: Sequence[Entry]
    than: Entry
    against: Sequence[Difference | None]
    slices: Sequence[Slices]
    manifests: Mapping[str, Manifest]


@dataclass(frozen=True)
class Line:
    """A row of the table; `bar` is end, low and high in per cent of the cell."""

    label: str
    explanation: str
    model: bool
    bar: tuple[float, float, float]
    value: str
    values: list[str]
    best: list[bool]
    difference: str
    interval: str
    chance: str


@dataclass(frozen=True)
class SliceTable:
    """A metric by a property of the targets: columns with their counts, and a row an entry."""

    name: str
    columns: list[tuple[str, int]]
    rows: list[tuple[str, list[tuple[str, bool]]]]


def build_comparison(contents: ComparisonContents) -> Report:
    """The report as one HTML page, and in short."""
    results = [entry.result for entry in contents.entries]
    first = results[0]
    columns = _columns(first, contents.metric)
    configs = {name: manifest.config for name, manifest in contents.manifests.items()}
    numbered = {name: value for result in results for name, value in result.flat().items()}
    title = f"{sum(entry.model is not None for entry in contents.entries)} recommenders compared"
    verdict, table = _verdict(contents), _table(contents, columns)
    checks = leakage_checks(contents.leakage, contents.dataset, contents.manifests)
    warnings = [ONE_SEED.format(people=first.people), *leaks(checks)]
    page = (
        pages()
        .get_template("comparison.html")
        .render(
            title=title,
            verdict=verdict,
            warnings=warnings,
            cards=_cards(contents),
            metric=contents.metric,
            than=contents.than.label,
            ties=TIES[first.ties],
            protocol=PROTOCOLS.get(contents.split, (contents.split.replace("_", " "), "")),
            people=first.people,
            targets=len(first.ranking),
            columns=columns,
            table=table,
            cost=_cost(contents),
            costs=[(place, entry.label, _cells(entry)) for place, entry in _trained(contents)],
            slices=[_slice(contents, one) for one in contents.slices],
            modalities=_modalities(contents),
            **origin(contents.dataset, checks, contents.manifests, configs, numbered, contents.run),
        )
    )
    rows = [(line.label, [line.value, _in_brackets(line), *line.values]) for line in table]
    shown = [contents.metric, f"less {contents.than.label}", *columns]
    return Report(page, summary(title, verdict, warnings, shown, rows, ()))


def _columns(result: Result, metric: str) -> list[str]:
    k = metric.rpartition("_")[2]
    wanted = [f"recall_{k}", f"ndcg_{k}", "recall_20", f"coverage_{k}"]
    return [name for name in dict.fromkeys(wanted) if name in result.metrics and name != metric]


def _table(contents: ComparisonContents, columns: Sequence[str]) -> list[Line]:
    results = [entry.result for entry in contents.entries]
    top = max(result.intervals[contents.metric].high for result in results) or 1.0
    best = {name: max(result.metrics[name] for result in results) for name in columns}
    lines = []
    for entry, against in zip(contents.entries, contents.against, strict=True):
        result, interval = entry.result, entry.result.intervals[contents.metric]
        value = result.metrics[contents.metric]
        lines.append(
            Line(
                entry.label,
                entry.explanation,
                entry.model is not None,
                (100 * value / top, 100 * interval.low / top, 100 * interval.high / top),
                f"{value:.4f}",
                [f"{result.metrics[name]:.4f}" for name in columns],
                [result.metrics[name] == best[name] > 0 for name in columns],
                "" if against is None else f"{against.value:+.4f}",
                "" if against is None else f"{against.interval.low:+.4f} to {against.interval.high:+.4f}",
                "" if against is None else _chance(against.p),
            )
        )
    return lines


def _cells(entry: Entry) -> list[str]:
    """The metric's price: parameters, time of training and peak memory."""
    assert entry.model is not None  # noqa: S101 (asked by the caller)
    memory = entry.model.cost.get("peak_memory_mib")
    return [
        f"{int(entry.model.statistics.get('parameters', 0)):,}",
        duration(entry.seconds),
        f"{memory / 1024:.1f} GiB" if memory else "",
    ]


def _trained(contents: ComparisonContents) -> list[tuple[int, Entry]]:
    """The models with their places in the table, from 1."""
    return [(place, entry) for place, entry in enumerate(contents.entries, 1) if entry.model is not None]


def _cost(contents: ComparisonContents) -> Markup | None:
    """Quality by time of training; a dot carries its place in the table."""
    trained = [(place, entry) for place, entry in _trained(contents) if entry.seconds > 0]
    if len(trained) < 2:
        return None
    return scatter_chart(
        [entry.seconds for _, entry in trained],
        [entry.result.metrics[contents.metric] for _, entry in trained],
        [str(place) for place, _ in trained],
        f"{contents.metric} by seconds of training",
    )


def _slice(contents: ComparisonContents, by: Slices) -> SliceTable:
    kinds = list(by.kinds)
    rows = []
    for entry in contents.entries:
        gains = _gains(entry.result, contents.metric)
        rows.append((entry.label, [float(gains[by.kinds[kind]].mean()) for kind in kinds]))
    best = [max(values[place] for _, values in rows) for place in range(len(kinds))]
    shown = [
        (label, [(f"{value:.4f}", value == top > 0) for value, top in zip(values, best, strict=True)])
        for label, values in rows
    ]
    return SliceTable(by.name, [(kind, int(by.kinds[kind].sum())) for kind in kinds], shown)


def _modalities(contents: ComparisonContents) -> list[tuple[str, list[str]]]:
    """The best of each recommender by what it knows: none, text, image, both; for those that were given several."""
    order = [(), ("text",), ("image",), ("text", "image")]
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for entry in contents.entries:
        if entry.model is not None:
            name = str(entry.model.config["recommender"]["name"])
            mine = found.setdefault(name, {})
            value = entry.result.metrics[contents.metric]
            mine[entry.modalities] = max(value, mine.get(entry.modalities, 0.0))
    return [
        (name, [f"{mine[known]:.4f}" if known in mine else "-" for known in order])
        for name, mine in found.items()
        if len(mine) > 1
    ]


def _gains(result: Result, metric: str) -> NDArray[np.float64]:
    name, _, k = metric.rpartition("_")
    return gains_at(result.ranking, int(k), result.ties)[name]


def _in_brackets(line: Line) -> str:
    """The difference of a line in one cell."""
    return f"{line.difference} ({line.interval}; {line.chance})" if line.difference else ""


def _chance(p: float) -> str:
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def _cards(contents: ComparisonContents) -> list[tuple[str, str, str]]:
    models = [entry for entry in contents.entries if entry.model is not None]
    best, quickest = models[0], min(models, key=lambda entry: entry.seconds)
    return [
        (f"best {contents.metric}", f"{best.result.metrics[contents.metric]:.4f}", best.label),
        (
            f"best baseline {contents.metric}",
            f"{contents.than.result.metrics[contents.metric]:.4f}",
            contents.than.label,
        ),
        ("trained in", duration(best.seconds), best.label),
        ("quickest", duration(quickest.seconds), quickest.label),
    ]


def _verdict(contents: ComparisonContents) -> str:
    best = next(entry for entry in contents.entries if entry.model is not None)
    against = contents.against[list(contents.entries).index(best)]
    value = f"{best.label} has the highest {contents.metric} of the trained recommenders, "
    value += f"{best.result.metrics[contents.metric]:.4f}"
    if against is None:
        return f"{value}; no baseline was measured beside it."
    beside = f"{contents.than.label} {contents.than.result.metrics[contents.metric]:.4f}"
    if against.p >= 0.05:
        return f"{value}; from {beside} it cannot be told apart ({_chance(against.p)})."
    side = "ahead of" if against.value > 0 else "behind"
    return f"{value}: {side} {beside} by {abs(against.value):.4f} ({_chance(against.p)})."
