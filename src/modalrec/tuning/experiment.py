"""Reading an Experiment of Katib (kubeflow.org/v1beta1), with everything that is wrong with it in one error."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment
from kubeflow_katib_api.models.v1beta1_experiment_spec import V1beta1ExperimentSpec

from modalrec.config import load_file
from modalrec.errors import ConfigError, Problems
from modalrec.tuning.algorithms import check_algorithm
from modalrec.tuning.collector import Collector
from modalrec.tuning.fields import check_fields
from modalrec.tuning.job import check_job
from modalrec.tuning.space import Parameter, read_parameter
from modalrec.tuning.stopping import check_stopping
from modalrec.tuning.strict import through
from modalrec.tuning.template import Template
from modalrec.tuning.webhook import check_webhook

PARALLEL = 3
"""Katib's default of `parallelTrialCount`."""


@dataclass(frozen=True)
class Objective:
    """What a search is for.

    Attributes:
        metric: Its name.
        maximise: Or else minimise.
        goal: The search ends where the objective reaches this.
        others: Further metrics to collect.
        strategies: From metric to which of its values counts: min, max or latest.
    """

    metric: str
    maximise: bool
    goal: float | None
    others: tuple[str, ...]
    strategies: Mapping[str, str]

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics, the objective first."""
        return (self.metric, *self.others)

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another one."""
        return value > than if self.maximise else value < than

    def reached(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return self.goal is not None and (value >= self.goal if self.maximise else value <= self.goal)


@dataclass(frozen=True)
class Experiment:
    """A search, read from its file.

    Attributes:
        name: The Experiment's name.
        document: The file's content.
        parameters: What is searched.
        objective: What for.
        algorithm: Katib's name of the algorithm.
        settings: Its settings.
        stopping: Settings of medianstop, or None for no early stopping.
        max_trials: Completed trials that end the search; None for as many as the algorithm has.
        parallel: Trials at a time.
        max_failed: Failed trials that end it.
        collector: Where metrics come from.
        template: The trial's command.
    """

    name: str
    document: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    objective: Objective
    algorithm: str
    settings: Mapping[str, str]
    stopping: Mapping[str, str] | None
    max_trials: int | None
    parallel: int
    max_failed: int | None
    collector: Collector
    template: Template


def load_experiment(path: Path) -> Experiment:
    """Reads and checks an Experiment.

    Raises:
        ConfigError: What Katib, Optuna or the trial's command would refuse; all problems at once.
    """
    return read_experiment(load_file(path), str(path))


def read_experiment(document: Mapping[str, Any], where: str) -> Experiment:
    """Checks an Experiment that is given as plain values.

    Args:
        document: The content of its file.
        where: How errors name it.

    Raises:
        ConfigError: See `load_experiment`.
    """
    problems = Problems(where, ConfigError)
    model = _strict(document, problems)
    for problem in check_webhook(model) if model else ():
        problems.add("", problem)
    problems.raise_if_any("Correct the file; https://www.kubeflow.org/docs/components/katib/ describes it")
    assert model is not None  # noqa: S101  (a problem otherwise)
    assert model.spec is not None  # noqa: S101
    experiment = _experiment(model.metadata.name or "", document, model.spec, problems)
    for problem in (*check_job(experiment.template.spec), *check_algorithm(experiment), *check_stopping(experiment)):
        problems.add("", problem)
    if not len(problems):
        for problem in check_fields(experiment):
            problems.add("", problem)
    problems.raise_if_any("Correct the file; `modalrec config STAGE` shows what a stage takes")
    return experiment


def _strict(document: Mapping[str, Any], problems: Problems) -> V1beta1Experiment | None:
    """The file as Katib's API types, which must say all that the file says."""
    for field, wanted in (("apiVersion", "kubeflow.org/v1beta1"), ("kind", "Experiment")):
        if document.get(field) != wanted:
            problems.add(field, f"{document.get(field)!r} instead of {wanted!r}")
    if len(problems):
        return None
    model, wrong = through(V1beta1Experiment, document)
    for problem in wrong:
        problems.add("", problem)
    if model is not None and (model.metadata is None or model.spec is None):
        problems.add("", "metadata and spec are missing")
    return model


def _experiment(name: str, document: Mapping[str, Any], spec: V1beta1ExperimentSpec, problems: Problems) -> Experiment:
    parameters = []
    for given in spec.parameters or ():
        parameter, wrong = read_parameter(given.name or "", given.parameter_type or "", given.feasible_space)
        problems.extend(wrong, f"spec.parameters: {given.name}")
        parameters += [parameter] if parameter else []
    stopping = spec.early_stopping
    return Experiment(
        name=name,
        document=document,
        parameters=tuple(parameters),
        objective=_objective(spec),
        algorithm=spec.algorithm.algorithm_name or "",
        settings=_settings(spec.algorithm.algorithm_settings),
        stopping=None if stopping is None else _settings(stopping.algorithm_settings),
        max_trials=spec.max_trial_count,
        parallel=spec.parallel_trial_count or PARALLEL,
        max_failed=spec.max_failed_trial_count,
        collector=_collector(spec),
        template=Template.read(spec.trial_template),
    )


def _settings(given: Any) -> dict[str, str]:
    return {setting.name: setting.value for setting in given or ()}


def _objective(spec: V1beta1ExperimentSpec) -> Objective:
    given = spec.objective
    assert given is not None  # noqa: S101  (checked by the webhook's rules)
    maximise = given.type == "maximize"
    others = tuple(given.additional_metric_names or ())
    metric = given.objective_metric_name or ""
    strategies = dict.fromkeys((metric, *others), "max" if maximise else "min")
    strategies |= {each.name: each.value for each in given.metric_strategies or ()}
    goal = None if given.goal is None else float(given.goal)
    return Objective(metric, maximise, goal, others, strategies)


def _collector(spec: V1beta1ExperimentSpec) -> Collector:
    given = spec.metrics_collector_spec
    if given is None or given.collector is None:
        return Collector()
    source = given.source
    place = source.file_system_path if source else None
    filters = tuple((source.filter.metrics_format or ()) if source and source.filter else ())
    if given.collector.kind != "File":
        return Collector(filters=filters)
    path, form = (place.path, place.format) if place else ("/var/log/katib/metrics.log", "TEXT")
    return Collector("File", path or "", form or "TEXT", filters)
