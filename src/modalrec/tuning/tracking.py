"""A search in MLflow: one run with the best settings, and below it one for each trial, however it ended."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from modalrec.artifacts.events import numbers_of
from modalrec.run import Run
from modalrec.stages.tracking import Entry, find_experiment
from modalrec.tuning.experiment import Experiment
from modalrec.tuning.results import best_of

ENDED: dict[str, Literal["FINISHED", "FAILED", "KILLED"]] = {"succeeded": "FINISHED", "ended early": "KILLED"}
"""From the state of a trial to MLflow's; all others have failed."""


def tracked(experiment: Experiment, search: Callable[[], list[dict[str, Any]]], run: Run) -> list[dict[str, Any]]:
    """Runs a search and puts it into MLflow where that is set up, as `stages.tracking.recorded` does a stage.

    Args:
        experiment: The experiment.
        search: Runs it; returns the trials, see `results.rows`.
        run: The search's run.

    Returns:
        The trials.

    Raises:
        UpstreamError: MLflow is set up, and does not answer or is not installed.
    """
    mlflow, begin = find_experiment(), time.time()
    listed = search()
    if mlflow is not None:
        mlflow.log(entries(experiment, listed, begin, time.time() - begin), run)
    return listed


def entries(experiment: Experiment, listed: Sequence[Mapping[str, Any]], begin: float, seconds: float) -> list[Entry]:
    """A search as MLflow is to keep it: first itself, then its trials.

    Args:
        experiment: The experiment.
        listed: The trials, see `results.rows`; of an earlier run of this search too.
        begin: When it began, in seconds since 1970.
        seconds: How long it took.
    """
    trials = [_trial(experiment, row, begin) for row in listed]
    best = best_of(listed, experiment.objective.maximise)
    whole = Entry(
        f"tune {experiment.name}",
        begin,
        seconds,
        {"algorithm": experiment.algorithm, "trials": len(listed), **(best["parameters"] if best else {})},
        [(name, value, 0) for name, value in numbers_of(best["metrics"] if best else {}).items()],
        {"modalrec.stage": "tune"} | ({"modalrec.best_trial": str(best["trial"])} if best else {}),
        "FINISHED" if best else "FAILED",
    )
    return [whole, *trials]


def _trial(experiment: Experiment, row: Mapping[str, Any], begin: float) -> Entry:
    metric = experiment.objective.metric
    last = [(name, value, 0) for name, value in numbers_of(row["metrics"]).items()]
    epochs = [(f"epoch_{metric}", value, step) for step, value in enumerate(row["epochs"], start=1)]
    state = {"modalrec.stage": "trial", "modalrec.state": row["state"], "modalrec.error": row["error"] or ""}
    return Entry(
        f"trial {row['trial']}",
        begin,
        row["seconds"] or 0.0,
        row["parameters"],
        [*last, *epochs],
        {name: text for name, text in state.items() if text},
        ENDED.get(row["state"], "FAILED"),
    )
