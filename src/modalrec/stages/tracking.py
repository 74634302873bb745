"""MLflow, where MLFLOW_TRACKING_URI is set: one run a stage, with settings, curves, numbers and where it came from.

A search is a run too, and its trials are runs below it (`modalrec.tuning.tracking`).
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modalrec.artifacts.card import card
from modalrec.artifacts.events import numbers_of, read_curves
from modalrec.artifacts.manifest import SUMMARY, Manifest, read_manifest
from modalrec.config import Config, flatten
from modalrec.errors import UpstreamError, without_passwords
from modalrec.run import Run, place_in_team
from modalrec.stages import EDGES, STAGES, load_stage

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
PARENT = "mlflow.parentRunId"
"""The tag by which MLflow lists a run below another one."""
LONGEST = 5000
"""Letters of a parameter or tag that every MLflow takes."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""By default MLflow's client tries for minutes; what is set in the environment holds."""
MOST = 100
"""Parameters of one request."""


@dataclass(frozen=True)
class Entry:
    """A run as MLflow is to keep it.

    Attributes:
        name: How it is listed.
        begin: When it began, in seconds since 1970.
        seconds: How long it took.
        settings: From dotted name to value.
        numbers: Name, value and step of each; a step is an epoch, and 0 for what came in the end.
        tags: Where it came from.
        state: How it ended, in MLflow's words.
    """

    name: str
    begin: float
    seconds: float
    settings: Mapping[str, Any]
    numbers: Sequence[tuple[str, float, int]]
    tags: Mapping[str, str] = field(default_factory=dict)
    state: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED"


def tracked(stage: str, edges: Mapping[str, Path | None], config: Config, run: Run) -> dict[str, float]:
    """Runs a stage of `STAGES` and puts what came of it into MLflow where that is set up.

    Raises:
        UpstreamError: MLflow is set up, and does not answer or is not installed.
    """
    function, _ = load_stage(stage)
    output = STAGES[stage].outputs[0]
    return recorded(lambda: function(**edges, config=config, run=run), EDGES[output], edges[output], run)


def recorded(work: Callable[[], dict[str, float]], kind: str, folder: Path | None, run: Run) -> dict[str, float]:
    """Does the work of a stage and puts what came of it into MLflow where that is set up.

    The server is asked before the stage begins, so that a wrong address is found at once. When it does not take the
    results in the end, that is said and the stage has succeeded all the same: its artifact holds all of it.

    Args:
        work: The stage; returns its numbers.
        kind: The kind of artifact that it writes.
        folder: Where it writes that.
        run: The stage's run.

    Returns:
        The stage's numbers.

    Raises:
        UpstreamError: MLflow is set up, and does not answer or is not installed.
    """
    experiment, begin = find_experiment(), time.time()
    numbers = work()
    if experiment is not None and folder is not None:
        manifest = read_manifest(folder, kind, verify=False)
        curves = [(f"epoch_{key}", value, step) for step, entry in read_curves(folder) for key, value in entry.items()]
        last = [(key, value, 0) for key, value in numbers_of(numbers).items()]
        name, spent = f"{run.stage} {manifest.digest[:8]}", time.time() - begin
        entry = Entry(name, begin, spent, flatten(manifest.config), [*last, *curves], tags_of(manifest, folder))
        experiment.log([entry], run)
    return numbers


def find_experiment() -> "Experiment | None":
    """MLflow's experiment where one is set up, and this process is the one of its team that tells.

    Raises:
        UpstreamError: MLflow is set up, and does not answer or is not installed.
    """
    return Experiment() if os.environ.get(ADDRESS) and place_in_team()[0] == 0 else None


class Experiment:
    """An experiment of MLflow.

    Raises:
        UpstreamError: The server does not answer, or MLflow is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise UpstreamError(
                f"{ADDRESS} is set and MLflow is not installed; pip install 'modalrec[mlflow]', or unset it"
            )
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._failed: tuple[type[Exception], ...] = (MlflowException, OSError)
        self._client = MlflowClient()
        name = os.environ.get(EXPERIMENT, "modalrec")
        try:
            found = self._client.get_experiment_by_name(name)
            self._id = found.experiment_id if found else self._client.create_experiment(name)
        except self._failed as error:
            raise UpstreamError(
                f"{ADDRESS}={os.environ[ADDRESS]}: does not answer as MLflow ({_short(error)}); start that server, "
                "correct the variable, or unset it"
            ) from None

    def log(self, entries: Sequence[Entry], run: Run) -> None:
        """Puts a run in, and the others as runs below it; or says why that is impossible."""
        try:
            identity = self._put(entries[0], {})
            for entry in entries[1:]:
                self._put(entry, {PARENT: identity})
            run.say(f"in MLflow: run {identity}")
        except self._failed as error:
            print(f"[{run.stage}] not in MLflow, and whole besides: {_short(error)}", file=sys.stderr, flush=True)

    def _put(self, entry: Entry, tags: Mapping[str, str]) -> str:
        from mlflow.entities import Metric, Param, RunTag

        start, end = (int(1e3 * when) for when in (entry.begin, entry.begin + entry.seconds))
        identity = str(self._client.create_run(self._id, start, run_name=entry.name).info.run_id)
        metrics = [Metric(name, value, end, step) for name, value, step in entry.numbers]
        params = [Param(key, str(value)[:LONGEST]) for key, value in entry.settings.items()]
        told = [RunTag(key, text[:LONGEST]) for key, text in {**entry.tags, **tags}.items()]
        for first in range(0, len(params), MOST):
            self._client.log_batch(identity, params=params[first : first + MOST])
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(identity, metrics=metrics[first : first + MOST])
        self._client.log_batch(identity, tags=told)
        self._client.set_terminated(identity, entry.state, end)
        return identity


def tags_of(manifest: Manifest, folder: Path) -> dict[str, str]:
    """What identifies an artifact, where it came from, and a description: a model's card, or its report in short."""
    tags = {name: str(getattr(manifest, name)) for name in ("kind", "stage", "digest", "code_version", "seed")}
    found = {f"modalrec.{name}": value for name, value in tags.items()}
    found |= {f"modalrec.input.{edge}": digest for edge, digest in manifest.inputs.items()}
    if manifest.kind == "model":
        return {**found, NOTE: card(manifest).partition("\n---\n")[2].strip()}
    short = folder / SUMMARY
    return {**found, NOTE: short.read_text(encoding="utf-8")} if short.is_file() else found


def _short(error: Exception) -> str:
    return without_passwords(str(error).partition("\n")[0])[:200]
