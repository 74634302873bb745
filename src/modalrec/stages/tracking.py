"""MLflow, where MLFLOW_TRACKING_URI is set: one run a stage, with settings, curves, numbers and where it came from."""

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from modalrec.artifacts.card import card
from modalrec.artifacts.events import numbers_of, read_curves
from modalrec.artifacts.manifest import Manifest, read_manifest
from modalrec.config import Config, flatten
from modalrec.errors import UpstreamError
from modalrec.run import Run, place_in_team
from modalrec.stages import EDGES, STAGES, load_stage

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
NOTE = "mlflow.note.content"
"""The tag that MLflow shows as a run's description."""
LONGEST = 5000
"""Letters of a parameter or tag that every MLflow takes."""
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""By default MLflow's client tries for minutes; what is set in the environment holds."""
MOST = 100
"""Parameters of one request."""


def tracked(stage: str, edges: Mapping[str, Path | None], config: Config, run: Run) -> dict[str, float]:
    """Runs a stage and puts what came of it into MLflow where that is set up.

    The server is asked before the stage begins, so that a wrong address is found at once. When it does not take the
    results in the end, that is said and the stage has succeeded all the same: its artifact holds all of it.

    Raises:
        UpstreamError: MLflow is set up, and does not answer or is not installed.
    """
    function, _ = load_stage(stage)
    experiment = _Experiment() if os.environ.get(ADDRESS) and place_in_team()[0] == 0 else None
    begin = time.time()
    numbers = function(**edges, config=config, run=run)
    output = STAGES[stage].outputs[0]
    folder = edges[output]
    if experiment is not None and folder is not None:
        manifest = read_manifest(folder, EDGES[output], verify=False)
        experiment.log(manifest, folder, numbers, begin, run)
    return numbers


class _Experiment:
    """An experiment of MLflow."""

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

    def log(self, manifest: Manifest, folder: Path, numbers: Mapping[str, float], begin: float, run: Run) -> None:
        """Puts a run of a stage in, or says why that is impossible."""
        try:
            identity = self._put(manifest, folder, numbers, begin)
            run.say(f"in MLflow: run {identity}")
        except self._failed as error:
            print(f"[{run.stage}] not in MLflow, and whole besides: {_short(error)}", file=sys.stderr, flush=True)

    def _put(self, manifest: Manifest, folder: Path, numbers: Mapping[str, float], begin: float) -> str:
        from mlflow.entities import Metric, Param, RunTag

        now, start = int(1e3 * time.time()), int(1e3 * begin)
        name = f"{manifest.stage} {manifest.digest[:8]}"
        identity = str(self._client.create_run(self._id, start, run_name=name).info.run_id)
        metrics = [Metric(key, value, now, 0) for key, value in numbers_of(numbers).items()]
        metrics += [
            Metric(f"epoch_{key}", value, now, step)
            for step, entry in read_curves(folder)
            for key, value in entry.items()
        ]
        params = [Param(key, str(value)[:LONGEST]) for key, value in flatten(manifest.config).items()]
        tags = [RunTag(key, text[:LONGEST]) for key, text in tags_of(manifest).items()]
        for first in range(0, len(params), MOST):
            self._client.log_batch(identity, params=params[first : first + MOST])
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(identity, metrics=metrics[first : first + MOST])
        self._client.log_batch(identity, tags=tags)
        self._client.set_terminated(identity)
        return identity


def tags_of(manifest: Manifest) -> dict[str, str]:
    """What identifies an artifact, and where it came from."""
    tags = {name: str(getattr(manifest, name)) for name in ("kind", "stage", "digest", "code_version", "seed")}
    found = {f"modalrec.{name}": value for name, value in tags.items()}
    found |= {f"modalrec.input.{edge}": digest for edge, digest in manifest.inputs.items()}
    return found | ({NOTE: card(manifest).partition("\n---\n")[2].strip()} if manifest.kind == "model" else {})


def _short(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
