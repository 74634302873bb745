"""The report of models of ratings; the page shares its parts with that of clicks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from modalrec.evaluation.rating_results import RATED, Group, RatingResult
from modalrec.evaluation.report import pages, words
from modalrec.evaluation.report.charts import Series, line_chart
from modalrec.evaluation.report.curves import curve_section
from modalrec.evaluation.report.details import origin
from modalrec.evaluation.report.figure import pipeline_figure
from modalrec.evaluation.report.leakage import leakage_checks, leaks
from modalrec.evaluation.report.neighbours import neighbour_section
from modalrec.evaluation.report.rows import Line, RowContents
from modalrec.evaluation.report.summary import Report, summary
from modalrec.evaluation.results import HEADLINE

LABELS = {
    HEADLINE: ("Model", "the headline of this run"),
    "without_content": ("Without content", "the same model without texts and pictures"),
    "without_popularity": ("Without popularity", "the same model, not told how popular an item is"),
    "without_codes": ("Without codes", "the same model without the items' codes"),
    "biased_mf": ("Biased MF", "matrix factorisation with biases, on the same rows"),
    "linear": ("Linear", "ridge regression on the same features, then biases"),
    "biases": ("Biases", "mean, bias of the user and bias of the item"),
    "popularity": ("Popularity", "the item's train rows"),
    "mean": ("Mean", "the mean rating of training, for every row"),
}
LEAKY = {
    "random": "The split is random over time",
    "folds": "The fold is drawn over time",
    "new_items": "The split is random over time, but for the items that are held out",
}
RANKED = 10
"""The cut-off of the ranking's table, where it was measured."""


@dataclass(frozen=True)
class GroupTable:
    """RMSE by groups of rows: their names and sizes, and a line for each model and baseline."""

    title: str
    groups: list[tuple[str, int]]
    lines: list[tuple[str, list[str]]]


def build_rating_report(contents: RowContents) -> Report:
    """The report as one HTML page, and in short."""
    results: Mapping[str, RatingResult] = contents.results
    model, manifests = results[HEADLINE], dict(contents.manifests)
    shown = sorted(results.values(), key=lambda result: list(LABELS).index(result.role))
    checks = leakage_checks(contents.leakage, manifests["dataset"], manifests)
    title, verdict, warnings = words.title(manifests), _verdict(results), _warnings(contents) + leaks(checks)
    table, remarks = _table(shown), _remarks(results)
    page = (
        pages()
        .get_template("ratings.html")
        .render(
            title=title,
            verdict=verdict,
            warnings=warnings,
            cards=[(name, _shown(model.metrics[name]), _range(model) if name == "rmse" else "") for name in RATED],
            figure=pipeline_figure(manifests),
            rows=int(contents.metrics["rows"]),
            part="test" if contents.part == "test" else "validation",
            split=contents.split.replace("_", " "),
            columns=list(RATED),
            table=table,
            groups=_group_tables(shown),
            ranking=_ranking(contents),
            ranked_users=int(contents.metrics.get("ranked_users", 0)),
            remarks=remarks,
            heights=_heights(shown),
            curves=curve_section(dict(contents.folders), manifests),
            neighbours=neighbour_section(contents.folders, contents.run),
            **origin(manifests["dataset"], checks, manifests, contents.config, contents.metrics, contents.run),
        )
    )
    rows = [(line.label, line.values) for line in table]
    return Report(page, summary(title, verdict, warnings, list(RATED), rows, remarks))


def _table(shown: list[RatingResult]) -> list[Line]:
    best = {name: min(one.metrics[name] for one in shown) for name in RATED}
    return [
        Line(
            *LABELS[one.role],
            one.role == HEADLINE,
            [_shown(one.metrics[name]) for name in RATED],
            [one.metrics[name] == best[name] for name in RATED],
        )
        for one in shown
    ]


def _group_tables(shown: list[RatingResult]) -> list[GroupTable]:
    kinds: list[tuple[str, Callable[[RatingResult], dict[str, Group]]]] = [
        ("By what training has seen", lambda one: one.parts),
        ("By train rows of the user", lambda one: one.users),
        ("By train rows of the item", lambda one: one.items),
        ("By the rating that came", lambda one: one.ratings),
    ]
    found = []
    for title, of in kinds:
        groups = [(name.replace("_", " "), one.rows) for name, one in of(shown[0]).items()]
        lines = [(LABELS[one.role][0], [_shown(group.rmse) for group in of(one).values()]) for one in shown]
        if len(groups) > 1:
            found.append(GroupTable(title, groups, lines))
    return found


def _ranking(contents: RowContents) -> list[Line]:
    names = [f"{metric}_{RANKED}" for metric in ("recall", "ndcg")]
    rows = {role: found for role, found in contents.rankings.items() if set(names) <= found.keys()}
    best = {name: max((found[name] for found in rows.values()), default=0.0) for name in names}
    return [
        Line(
            *LABELS[role],
            role == HEADLINE,
            [_shown(rows[role][name]) for name in names],
            [rows[role][name] == best[name] > 0 for name in names],
        )
        for role in LABELS
        if role in rows
    ]


def _verdict(results: Mapping[str, RatingResult]) -> str:
    model = results[HEADLINE]
    others = ("biased_mf", "linear", "biases", "mean")
    beside = ", ".join(f"{LABELS[role][0]} {_shown(results[role].metrics['rmse'])}" for role in others)
    return (
        f"RMSE is {_shown(model.metrics['rmse'])} (95 % interval {_range(model)}), where the baselines have: {beside}."
    )


def _warnings(contents: RowContents) -> list[str]:
    said = []
    if contents.part != "test":
        said.append("There is no test row with a rating: these numbers are of the validation rows.")
    if contents.split in LEAKY:
        said.append(
            f"{LEAKY[contents.split]}: training has seen what came after the test rows, and the numbers are better "
            "than they would be for tomorrow's rows."
        )
    return said


def _remarks(results: Mapping[str, RatingResult]) -> list[str]:
    model, said = results[HEADLINE], []
    other = results.get("without_content")
    if other:
        gain = other.metrics["rmse"] - model.metrics["rmse"]
        said.append(
            f"Without texts and pictures RMSE is {_shown(other.metrics['rmse'])}: they are worth {gain:+.4f} over all "
            "rows."
        )
        for part in ("warm_items", "cold_items"):
            if part in model.parts:
                ours, theirs = model.parts[part], other.parts[part]
                said.append(
                    f"On {ours.rows:,} rows of {part.replace('_', ' ')} they are worth {theirs.rmse - ours.rmse:+.4f}."
                )
    else:
        said.append("There is no model without content here; give --without_content to know its worth.")
    said.append("All numbers are of one seed; the interval tells the chance in the choice of users, not in training.")
    return said


def _heights(shown: list[RatingResult]) -> dict[str, Any]:
    """A chart of the mean prediction for rows of each rating, and the names of its lines."""
    lines = [one for one in shown if one.role in (HEADLINE, "biased_mf") and len(one.ratings) > 1]
    series = [
        Series(
            LABELS[one.role][0], [float(height) for height in one.ratings], [g.predicted for g in one.ratings.values()]
        )
        for one in lines
    ]
    svg = line_chart(series, "mean prediction by rating") if series else Markup("")
    return {"svg": svg, "names": [line.name for line in series]}


def _range(model: RatingResult) -> str:
    return f"{_shown(model.interval.low)} to {_shown(model.interval.high)}"


def _shown(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"
