"""The report of a search: one HTML file with history, importances, slices and all trials, which loads nothing."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from jinja2 import PackageLoader
from markupsafe import Markup
from optuna.importance import PedAnovaImportanceEvaluator

from modalrec.artifacts.files import write_bytes
from modalrec.artifacts.manifest import code_version
from modalrec.evaluation.report import pages
from modalrec.evaluation.report.charts import Series, dot_chart, line_chart
from modalrec.evaluation.report.details import environment
from modalrec.evaluation.report.figure import duration
from modalrec.evaluation.report.text import harmless
from modalrec.run import Run
from modalrec.tuning.experiment import Experiment
from modalrec.tuning.results import best_of, plain_yaml
from modalrec.tuning.space import NUMERIC, Parameter

REPORT = "report.html"
FEWEST = 4
"""Succeeded trials below which nothing is said of importances."""


def write_report(folder: Path, experiment: Experiment, listed: Sequence[Mapping[str, Any]], run: Run) -> None:
    """Writes `report.html`.

    Args:
        folder: Where to.
        experiment: The experiment.
        listed: The trials, see `results.rows`.
        run: The search's run.
    """
    contents = _contents(experiment, listed) | {"environment": environment(run, code_version())}
    html = pages(PackageLoader("modalrec", "tuning")).get_template(REPORT).render(**contents)
    write_bytes(folder / REPORT, harmless(html).encode())


def importances(experiment: Experiment, listed: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """How much each parameter decides between the best tenth of the trials and the others (PED-ANOVA), 1 in total.

    Watanabe, Bansal and Hutter 2023 (arXiv 2304.10255). Empty for fewer than `FEWEST` trials or parameters that never
    changed.
    """
    able = [row for row in listed if row["value"] is not None]
    searched = [p for p in experiment.parameters if len({row["parameters"].get(p.name) for row in able}) > 1]
    if len(able) < FEWEST or not searched:
        return []
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if experiment.objective.maximise else "minimize")
    for row in able:
        given = {p.name: _value(p, row["parameters"][p.name]) for p in searched}
        distributions = {p.name: p.distribution() for p in searched}
        study.add_trial(optuna.create_trial(params=given, distributions=distributions, value=row["value"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        found = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    return sorted(found.items(), key=lambda pair: -pair[1])


def _contents(experiment: Experiment, listed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    objective = experiment.objective
    best = best_of(listed, objective.maximise)
    ranked = importances(experiment, listed)
    states = [row["state"] for row in listed]
    seconds = [row["seconds"] for row in listed if row["seconds"] is not None]
    cards = [
        (
            f"best {objective.metric}",
            f"{best['value']:.4f}" if best else "none",
            f"trial {best['trial']}" if best else "",
        ),
        ("trials", str(len(listed)), f"{states.count('failed')} failed, {states.count('ended early')} ended early"),
        ("algorithm", experiment.algorithm, "medianstop" if experiment.stopping is not None else "no early stopping"),
        ("time", duration(sum(seconds)), f"{duration(sum(seconds) / len(seconds))} a trial" if seconds else ""),
    ]
    told = "Importances say how much a parameter tells the best tenth of the trials from the others (PED-ANOVA)."
    return {
        "title": experiment.name,
        "warnings": (),
        "metric": objective.metric,
        "verdict": _verdict(experiment, best),
        "cards": cards,
        "importances": ranked,
        "explained": told if ranked else "Too few trials have succeeded to say which parameter matters.",
        "charts": _charts(experiment, listed, best) if best else None,
        "parameters": [parameter.name for parameter in experiment.parameters],
        "rows": listed,
        "best": best["trial"] if best else None,
        "document": plain_yaml(experiment.document),
    }


def _verdict(experiment: Experiment, best: Mapping[str, Any] | None) -> str:
    if best is None:
        return "No trial has succeeded; the table has their errors."
    chosen = ", ".join(f"{name} {value}" for name, value in best["parameters"].items())
    wanted = "greatest" if experiment.objective.maximise else "least"
    return f"The {wanted} {experiment.objective.metric} is {best['value']:.4f}, with {chosen}."


def _charts(experiment: Experiment, listed: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> dict[str, Any]:
    able = [row for row in listed if row["value"] is not None]
    numbers, values = [row["trial"] for row in able], [row["value"] for row in able]
    pick = max if experiment.objective.maximise else min
    so_far = [pick(values[: place + 1]) for place in range(len(values))]
    history = line_chart(
        [Series("best so far", numbers, so_far), Series("trial", numbers, values)],
        f"{experiment.objective.metric} over trials",
        mark=best["trial"],
    )
    mark = numbers.index(best["trial"])
    slices = [(each.name, _slice(each, able, values, mark)) for each in experiment.parameters]
    return {"history": history, "slices": slices}


def _slice(parameter: Parameter, able: Sequence[Mapping[str, Any]], values: list[float], mark: int) -> Markup:
    given = [row["parameters"][parameter.name] for row in able]
    if parameter.kind in NUMERIC:
        across = Series(parameter.name, [float(value) for value in given], values)
        return dot_chart(across, f"{parameter.name} and the objective", mark, log=parameter.log)
    places = Series(parameter.name, [parameter.choices.index(value) for value in given], values)
    return dot_chart(places, f"{parameter.name} and the objective", mark, names=parameter.choices)


def _value(parameter: Parameter, text: str) -> Any:
    return {"int": int, "double": float}.get(parameter.kind, str)(text)
