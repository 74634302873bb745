"""The rules of Katib's validating webhook, so that a file is refused here and not by a cluster.

After `validator.go` of Katib 0.19, and the defaults that its mutating webhook sets first. Where Katib's own code would
be more lenient than its message says (an unanchored pattern for names), the message is followed.
"""

import json
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from kubeflow_katib_api.models.v1beta1_experiment import V1beta1Experiment
from kubeflow_katib_api.models.v1beta1_metrics_collector_spec import V1beta1MetricsCollectorSpec
from kubeflow_katib_api.models.v1beta1_objective_spec import V1beta1ObjectiveSpec
from kubeflow_katib_api.models.v1beta1_parameter_spec import V1beta1ParameterSpec

from modalrec.tuning.collector import STRATEGIES
from modalrec.tuning.space import LISTED, NUMERIC
from modalrec.tuning.template import METADATA, PLACEHOLDER, REFERENCE

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 40
ONLY_PYTHON = re.compile(r"(?<!\\)\(\?(<?[=!]|P=|\(|>)|(?<!\\)(\\\\)*\\[1-9]")
"""Lookaround, references back, conditions and atomic groups."""
DEFAULTED = ("Job", "TrainJob", "TFJob", "PyTorchJob", "MPIJob", "XGBoostJob", "JAXJob")
"""Kinds whose conditions Katib knows; any other trial must say when it has succeeded and failed."""


def check_webhook(experiment: V1beta1Experiment) -> Iterator[str]:
    """What Katib would refuse, each in one line that begins with the field."""
    spec = experiment.spec
    if experiment.metadata is None or spec is None:
        return
    name = experiment.metadata.name or ""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        yield (
            f"metadata.name: {name!r} must be lower case letters, digits and hyphens, begin with a letter, not end "
            f"with a hyphen, and have at most {LONGEST_NAME} characters"
        )
    yield from _counts(spec)
    yield from _objective(spec.objective)
    if spec.algorithm is None or not spec.algorithm.algorithm_name:
        yield "spec.algorithm.algorithmName: missing"
    if spec.early_stopping is not None and not spec.early_stopping.algorithm_name:
        yield "spec.earlyStopping.algorithmName: missing"
    if (spec.resume_policy or "Never") not in ("Never", "LongRunning", "FromVolume"):
        yield f"spec.resumePolicy: {spec.resume_policy!r} is none of Never, LongRunning, FromVolume"
    yield from _trial_template(spec.trial_template, {parameter.name for parameter in spec.parameters or ()})
    if not spec.parameters:
        yield "spec.parameters: missing (spec.nasConfig is not for modalrec)"
    names = [parameter.name for parameter in spec.parameters or ()]
    for twice in sorted({str(name) for name in names if names.count(name) > 1}):
        yield f"spec.parameters: {twice} is there twice"
    for parameter in spec.parameters or ():
        yield from _parameter(parameter)
    if spec.metrics_collector_spec is not None:
        yield from _collector(spec.metrics_collector_spec)


def _counts(spec: Any) -> Iterator[str]:
    most, parallel, failed = spec.max_trial_count, spec.parallel_trial_count, spec.max_failed_trial_count
    if failed is not None and failed < 0:
        yield f"spec.maxFailedTrialCount: {failed} is below 0"
    if most is not None and most <= 0:
        yield f"spec.maxTrialCount: {most} is not above 0"
    if parallel is not None and parallel <= 0:
        yield f"spec.parallelTrialCount: {parallel} is not above 0"
    if most is not None and failed is not None and failed > most:
        yield f"spec.maxFailedTrialCount: {failed} is above maxTrialCount={most}"
    if most is not None and parallel is not None and parallel > most:
        yield f"spec.parallelTrialCount: {parallel} is above maxTrialCount={most}"


def _objective(objective: V1beta1ObjectiveSpec | None) -> Iterator[str]:
    if objective is None:
        yield "spec.objective: missing"
        return
    if objective.type not in ("minimize", "maximize"):
        yield f"spec.objective.type: {objective.type!r} must be minimize or maximize"
    if not objective.objective_metric_name:
        yield "spec.objective.objectiveMetricName: missing"
    elif objective.objective_metric_name in (objective.additional_metric_names or ()):
        yield "spec.objective.additionalMetricNames: must not contain objectiveMetricName"
    for strategy in objective.metric_strategies or ():
        if strategy.value not in STRATEGIES:
            yield f"spec.objective.metricStrategies: {strategy.name}: {strategy.value!r} is none of min, max, latest"


def _parameter(parameter: V1beta1ParameterSpec) -> Iterator[str]:
    where, kind, space = f"spec.parameters: {parameter.name}", parameter.parameter_type, parameter.feasible_space
    if kind not in (*NUMERIC, *LISTED):
        yield f"{where}: parameterType {kind!r} is none of {', '.join((*NUMERIC, *LISTED))}"
        return
    if space is None or not any((space.max, space.min, space.step, space.list, space.distribution)):
        yield f"{where}: feasibleSpace is missing"
    elif kind in NUMERIC and space.list:
        yield f"{where}: feasibleSpace.list is for discrete and categorical parameters, this one is {kind}"
    elif kind in NUMERIC and not (space.min and space.max):
        yield f"{where}: feasibleSpace needs min and max, as texts"
    elif kind in LISTED and (space.min or space.max or space.step):
        yield f"{where}: feasibleSpace has min, max or step, and a {kind} parameter has a list alone"


def _trial_template(template: Any, parameters: set[str | None]) -> Iterator[str]:
    where = "spec.trialTemplate"
    if template is None:
        yield f"{where}: missing"
        return
    if not template.primary_container_name:
        yield f"{where}.primaryContainerName: missing"
    kind = (template.trial_spec or {}).get("kind")
    if kind not in DEFAULTED and not (template.success_condition and template.failure_condition):
        yield f"{where}: a trial of kind {kind} needs successCondition and failureCondition"
    if not template.trial_parameters:
        yield f"{where}.trialParameters: missing"
        return
    if template.config_map is not None:
        yield f"{where}.configMap: the trial must be in the file itself, as trialSpec: a laptop has no config maps"
        return
    if not template.trial_spec:
        yield f"{where}.trialSpec: missing"
        return
    metadata = template.trial_spec.get("metadata") or {}
    if metadata.get("name") or metadata.get("namespace"):
        yield f"{where}.trialSpec.metadata: name and namespace must be left out; Katib sets them for each trial"
    if not kind or not template.trial_spec.get("apiVersion"):
        yield f"{where}.trialSpec: apiVersion or kind is missing"
    yield from _trial_parameters(template, parameters)


def _trial_parameters(template: Any, parameters: set[str | None]) -> Iterator[str]:
    where, text = "spec.trialTemplate.trialParameters", json.dumps(template.trial_spec)
    names: set[str] = set()
    references: set[str] = set()
    for given in template.trial_parameters:
        name, reference = given.name or "", given.reference or ""
        if not name or not reference or "{" in name or "}" in name:
            yield f"{where}: {name!r} needs a name without braces, and a reference"
            continue
        if name in names:
            yield f"{where}: the name {name} is there twice"
        if reference in references:
            yield f"{where}: the reference {reference} is there twice"
        names.add(name)
        references.add(reference)
        if not METADATA.fullmatch(reference) and reference not in parameters:
            yield f"{where}: {name} refers to {reference}, which is not among spec.parameters"
        if REFERENCE.format(name) not in text:
            yield f"{where}: {name} is not used: {REFERENCE.format(name)} is nowhere in trialSpec"
    for unused in sorted({str(parameter) for parameter in parameters} - references):
        yield f"spec.parameters: {unused} is used by no trial parameter; every trial would fail"
    for name in sorted(set(PLACEHOLDER.findall(text)) - names):
        yield f"spec.trialTemplate.trialSpec: {REFERENCE.format(name)} is not among trialParameters"


def _collector(given: V1beta1MetricsCollectorSpec) -> Iterator[str]:
    where = "spec.metricsCollectorSpec"
    kind = given.collector.kind if given.collector else "StdOut"
    source = given.source
    if kind not in ("StdOut", "File"):
        yield f"{where}.collector.kind: {kind!r} cannot be read here; use StdOut or File"
        return
    formats = list((source.filter.metrics_format or ()) if source and source.filter else ())
    if kind == "File":
        place = source.file_system_path if source else None
        path, form = (place.path or "", place.format) if place else ("", None)
        if place and (place.kind or "File") != "File":
            yield f"{where}.source.fileSystemPath.kind: {place.kind!r} must be File"
        if not posixpath.isabs(path):
            yield f"{where}.source.fileSystemPath.path: {path!r} is not an absolute path"
        if form not in ("TEXT", "JSON"):
            yield f"{where}.source.fileSystemPath.format: {form!r} must be TEXT or JSON"
        if form == "JSON" and source and source.filter is not None:
            yield f"{where}.source.filter: goes with TEXT alone; leave it out for JSON"
    for pattern in formats:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            yield f"{where}.source.filter.metricsFormat: {pattern!r} is no regular expression ({error})"
            continue
        told = f"{where}.source.filter.metricsFormat: {pattern!r}"
        if ";" in pattern:
            yield f"{told} has a semicolon, where Katib takes it apart; write \\x3b"
        if ONLY_PYTHON.search(pattern):
            yield f"{told} looks around or back, which Go's expressions cannot"
        if groups < 2:
            yield f"{told} needs two groups, for name and value"
