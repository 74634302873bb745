"""What the component `tune` does: an Experiment around the recipe's settings, run by Katib or by Optuna."""

import json
import os
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import components
from components.execute import log_metrics, user_errors
from modalrec.config import dump, resolve
from modalrec.errors import TrainingError
from modalrec.run import Run
from modalrec.stages import load_stage

EXPERIMENTS = Path(components.__file__).parents[1] / "manifests" / "katib"
"""Beside `components` in a checkout and in the images."""

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where a pod finds the name of its namespace; a laptop has no such file."""

SEARCHES = "MODALREC_SEARCHES"
"""Variable with the folder where searches of a laptop are kept, so that an interrupted one goes on."""


def choose(configs: Mapping[str, Mapping[str, Any]]) -> Any:
    """The Experiment that a recipe's search goes by.

    Args:
        configs: Resolved configurations of `finetune` and `tune`.

    Raises:
        ConfigError: None fits the recommender.
    """
    from modalrec.tuning.recipe import fitting_experiment

    return fitting_experiment(EXPERIMENTS, configs["finetune"], configs["tune"]["experiment"])


def execute_search(
    config: str,
    search: str,
    seed: int,
    *,
    inputs: Mapping[str, Any],
    pod: tuple[Any, ...],
    metrics: Any,
    report: Any,
) -> Any:
    """Runs a search inside the component.

    Args:
        config: Configuration of `finetune`, as JSON.
        search: Configuration of the search, as JSON.
        seed: The seed of all random draws.
        inputs: From edge name to artifact; None for an optional edge that is not connected.
        pod: Image, GPU resource, GPUs, node selector, tolerations and memory of the trials of a cluster.
        metrics: The Metrics artifact.
        report: The HTML artifact.

    Returns:
        A named tuple with the configuration of `finetune` with the best parameters, as JSON.
    """
    from modalrec.tuning.recipe import Pod, around
    from modalrec.tuning.report import write_report
    from modalrec.tuning.results import write_results
    from modalrec.tuning.tracking import tracked

    with user_errors(), tempfile.TemporaryDirectory(prefix="modalrec-") as folder:
        finetune, wanted = json.loads(config), json.loads(search)
        on_cluster = ACCOUNT.is_file()
        given = {edge: artifact for edge, artifact in inputs.items() if artifact is not None}
        places = {edge: _address(each.uri) if on_cluster else each.path for edge, each in given.items()}
        places["checkpoints"] = os.environ.get("MODALREC_CHECKPOINTS", f"{folder}/checkpoints")
        experiment = around(
            choose({"finetune": finetune, "tune": wanted}),
            finetune,
            places,
            trials=wanted["trials"],
            parallel=wanted["parallel"],
            pod=Pod(*pod) if on_cluster else None,
        )
        run = Run("tune", seed=seed)
        trials = partial(_optuna, experiment, wanted["parallel"], seed, folder, run)
        listed = tracked(experiment, partial(_katib, experiment, run) if on_cluster else trials, run)
        best = write_results(Path(folder), experiment, listed)
        write_report(Path(folder), experiment, listed, run)
        if best is None:
            raise TrainingError(f"{experiment.name}: no trial has succeeded; see the log of this step")
        log_metrics(metrics, {**best["metrics"], "trials": len(listed), "best_trial": best["trial"]})
        shutil.copyfile(Path(folder) / "report.html", report.path)
        settings = experiment.template.command(best["parameters"], "best").settings()
        tuned = json.dumps(dump(resolve(load_stage("finetune")[1], settings, where="finetune")), sort_keys=True)
    return namedtuple("Tuned", ["finetune"])(tuned)


def _katib(experiment: Any, run: Run) -> list[dict[str, Any]]:
    from modalrec.tuning.katib import Cluster

    return Cluster(ACCOUNT.read_text(encoding="utf-8").strip()).run(experiment.document, run)


def _optuna(experiment: Any, parallel: int, seed: int, folder: str, run: Run) -> list[dict[str, Any]]:
    from modalrec.tuning.results import rows
    from modalrec.tuning.search import Search

    kept = Path(os.environ.get(SEARCHES, folder)) / experiment.name
    at_once = parallel or min(experiment.parallel, len(os.sched_getaffinity(0)))
    return rows(Search(experiment, kept, parallel=at_once, seed=seed).run(run))


def _address(uri: str) -> str:
    """An artifact's address as trials take it; Kubeflow calls its own store minio."""
    return f"s3://{uri.removeprefix('minio://')}" if uri.startswith("minio://") else uri
