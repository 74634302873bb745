"""The report of models of labelled rows; the page shares its parts with that of rankings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.click_results import MEASURED, ClickResult
from modalrec.evaluation.leakage import Leakage
from modalrec.evaluation.report import pages, words
from modalrec.evaluation.report.charts import Series, line_chart
from modalrec.evaluation.report.codes import code_section
from modalrec.evaluation.report.curves import curve_section
from modalrec.evaluation.report.details import origin
from modalrec.evaluation.report.figure import pipeline_figure
from modalrec.evaluation.report.leakage import leakage_checks, leaks
from modalrec.evaluation.report.neighbours import neighbour_section
from modalrec.evaluation.report.summary import Report, summary
from modalrec.evaluation.results import HEADLINE
from modalrec.run import Run

LABELS = {
    HEADLINE: ("Model", "the headline of this run"),
    "without_popularity": ("Without popularity", "the same model, not told how popular an item is"),
    "without_codes": ("Without codes", "the same model without the items' content codes"),
    "without_content": ("Without content", "the same model without texts and pictures"),
    "item_rate": ("Item's rate", "the item's share of clicks in training, smoothed by the average"),
    "popularity": ("Popularity", "the item's rows in training; orders rows, says no probability"),
    "rate": ("Rate", "the share of clicks in training, for every row"),
}
LOWER_IS_BETTER = {"log_loss", "calibration_error"}


@dataclass(frozen=True)
class RowContents:
    """What a report on rows is made from.

    Attributes:
        run: The stage's run.
        config: The stage's configuration as plain values.
        folders: The artifact folders by edge.
        manifests: Their manifests.
        results: The measured rows of the table by role; `model` at least.
        part: test or valid.
        split: Name of the split.
        leakage: What training and histories know of its test part.
        metrics: All numbers by full name.
        rankings: Metrics of rankings of the catalogue, by role.
    """

    run: Run
    config: dict[str, Any]
    folders: Mapping[str, Path]
    manifests: Mapping[str, Manifest]
    results: Mapping[str, Any]
    part: str
    split: str
    leakage: Leakage
    metrics: dict[str, float]
    rankings: Mapping[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A line of the table."""

    label: str
    explanation: str
    headline: bool
    values: list[str]
    best: list[bool]


def build_row_report(contents: RowContents) -> Report:
    """The report as one HTML page, and in short."""
    model, manifests = contents.results[HEADLINE], dict(contents.manifests)
    shown = sorted(contents.results.values(), key=lambda result: list(LABELS).index(result.role))
    checks = leakage_checks(contents.leakage, manifests["dataset"], manifests)
    title, verdict, warnings = words.title(manifests), _verdict(contents), _warnings(contents) + leaks(checks)
    columns, table, remarks = [name.replace("_", " ") for name in MEASURED], _table(shown), _remarks(contents)
    page = (
        pages()
        .get_template("rows.html")
        .render(
            title=title,
            verdict=verdict,
            warnings=warnings,
            cards=_cards(model),
            figure=pipeline_figure(manifests),
            rows=int(contents.metrics["rows"]),
            users=model.users,
            part="test" if contents.part == "test" else "validation",
            split=contents.split.replace("_", " "),
            columns=columns,
            table=table,
            parts=[(name.replace("_", " "), count) for name, (count, _) in model.parts.items()],
            part_rows=[(LABELS[one.role][0], [_shown(found) for _, found in one.parts.values()]) for one in shown],
            remarks=remarks,
            roc=_roc(model),
            calibration=_calibration(model),
            curves=curve_section(dict(contents.folders), manifests),
            codes=code_section(dict(contents.folders), manifests),
            neighbours=neighbour_section(contents.folders, contents.run),
            **origin(manifests["dataset"], checks, manifests, contents.config, contents.metrics, contents.run),
        )
    )
    rows = [(line.label, line.values) for line in table]
    return Report(page, summary(title, verdict, warnings, columns, rows, remarks))


def _table(shown: list[ClickResult]) -> list[Line]:
    best = {}
    for name in MEASURED:
        found = [one.metrics[name] for one in shown if one.metrics.get(name, float("nan")) > -np.inf]
        best[name] = (min if name in LOWER_IS_BETTER else max)(found, default=float("nan"))
    return [
        Line(
            *LABELS[one.role],
            one.role == HEADLINE,
            [_shown(one.metrics.get(name, float("nan"))) for name in MEASURED],
            [one.metrics.get(name) == best[name] for name in MEASURED],
        )
        for one in shown
    ]


def _cards(model: ClickResult) -> list[tuple[str, str, str]]:
    low, high = model.interval.low, model.interval.high
    remarks = {"auc": f"{_shown(low)} to {_shown(high)}", "user_auc": f"over {model.users:,} users"}
    return [(name.replace("_", " "), _shown(model.metrics[name]), remarks.get(name, "")) for name in MEASURED]


def _verdict(contents: RowContents) -> str:
    model = contents.results[HEADLINE]
    against = contents.results["item_rate"].metrics["auc"]
    low, high = _shown(model.interval.low), _shown(model.interval.high)
    return (
        f"AUC is {_shown(model.metrics['auc'])} (95 % interval {low} to {high}), where the item's own rate has "
        f"{_shown(against)}; log loss is {_shown(model.metrics['log_loss'])}."
    )


def _warnings(contents: RowContents) -> list[str]:
    said = []
    if contents.manifests["dataset"].statistics.get("source", {}).get("synthetic"):
        said.append("The data is made up: these numbers say nothing of real users, items or models.")
    if contents.part != "test":
        said.append(
            "The labels of all test rows are hidden: these numbers are of the validation rows, by which the epoch was "
            "chosen."
        )
    if contents.split == "random":
        said.append(
            "The split is random over time: training has seen what came after the test rows, and the numbers are "
            "higher than they would be for tomorrow's rows."
        )
    return said


def _remarks(contents: RowContents) -> list[str]:
    model, said = contents.results[HEADLINE], []
    for edge, what in (
        ("without_popularity", "fields that tell how popular an item is"),
        ("without_codes", "the content codes"),
    ):
        if other := contents.results.get(edge):
            gain = model.metrics["auc"] - other.metrics["auc"]
            within = model.metrics["user_auc"] - other.metrics["user_auc"]
            inside = f", and {within:+.4f} inside users" if np.isfinite(within) else ""
            said.append(f"Without {what} AUC is {_shown(other.metrics['auc'])}: they are worth {gain:+.4f}{inside}.")
        else:
            said.append(f"There is no model without {what} beside this one; give --{edge} to know what they are worth.")
    said.append(
        f"On average the model predicts {_shown(model.metrics['mean_prediction'])}, and "
        f"{_shown(contents.metrics['click_rate'])} of the rows are clicks."
    )
    said.append("All numbers are of one seed; the interval tells the chance in the choice of users, not in training.")
    return said


def _roc(model: ClickResult) -> Markup:
    reached = Series("model", model.roc.false_positives, model.roc.true_positives)
    return line_chart([reached, Series("chance", [0, 1], [0, 1])], "ROC")


def _calibration(model: ClickResult) -> Markup | None:
    if len(model.curve) < 2:
        return None
    predicted = [one.predicted for one in model.curve]
    observed = [one.observed for one in model.curve]
    lines = [Series("predicted", predicted, predicted), Series("observed", predicted, observed)]
    return line_chart(lines, "calibration")


def _shown(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"
