"""Strict validation of a compiled pipeline: what the API server would find only when a run starts, or never."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from modalrec.errors import ConfigError, Problems

ParameterTypes = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")


def read_documents(text: str) -> list[dict[str, Any]]:
    """The documents of a compiled pipeline: a PipelineSpec and, where it has one, a PlatformSpec."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast
    return [document for document in yaml.load_all(text, Loader=loader) if document]


def validate(documents: Sequence[dict[str, Any]], name: str) -> pipeline_spec_pb2.PipelineSpec:
    """Parses the documents of a compiled pipeline into their protobufs and resolves every reference.

    Args:
        documents: A PipelineSpec and, where it has one, a PlatformSpec.
        name: How to call it in messages.

    Returns:
        The pipeline's specification.

    Raises:
        ConfigError: An unknown field, or a reference to a component, executor, task, input or output that is not
            there.
    """
    problems = Problems(name, ConfigError)
    spec = pipeline_spec_pb2.PipelineSpec()
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    if not documents:
        problems.add("", "is empty")
    elif _parsed(documents[0], spec, "pipeline", problems):
        executors = json_format.MessageToDict(spec.deployment_spec)
        _parsed(executors, deployment, "deploymentSpec", problems)
        platform = {label: config for document in documents[1:] for label, config in _platform(document, problems)}
        problems.extend(sorted(set(platform) - set(deployment.executors)), "platform settings of no executor")
        _check_references(spec, set(deployment.executors), platform, problems)
    problems.raise_if_any("Compile the recipe again with `make compile`; compiled files are not edited.")
    return spec


def _parsed(document: Mapping[str, Any], message: Any, where: str, problems: Problems) -> bool:
    try:
        json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        problems.add(where, str(error))
        return False
    return True


def _platform(document: Mapping[str, Any], problems: Problems) -> Iterator[tuple[str, Any]]:
    if not _parsed(document, pipeline_spec_pb2.PlatformSpec(), "platforms", problems):
        return
    configs = document["platforms"].get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for label, config in configs.items():
        _parsed(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig(), label, problems)
        yield label, config


def _check_references(spec: Any, executors: set[str], platform: Mapping[str, Any], problems: Problems) -> None:
    components = dict(spec.components)  # looking up a missing key in a protobuf map would add it
    used: set[str] = set()
    for name, component in [("root", spec.root), *components.items()]:
        if component.WhichOneof("implementation") == "dag":
            for task_name, task in component.dag.tasks.items():
                used.add(task.component_ref.name)
                for problem in _task_problems(components, component, task, platform):
                    problems.add(f"{name}: {task_name}", problem)
        elif component.executor_label not in executors:
            problems.add(name, f"executor {component.executor_label!r} is not there")
    problems.extend(sorted(set(components) - used), "a component that no task uses")


def _task_problems(components: dict[str, Any], parent: Any, task: Any, platform: Mapping[str, Any]) -> Iterator[str]:
    siblings, inputs = parent.dag.tasks, parent.input_definitions
    if task.component_ref.name not in components:
        yield f"component {task.component_ref.name!r} is not there"
        return
    yield from (f"depends on {name!r}, which is not there" for name in task.dependent_tasks if name not in siblings)
    for name in _parameters_of(platform.get(components[task.component_ref.name].executor_label)):
        if name not in inputs.parameters:
            yield f"platform settings: the parameter {name!r} is not there"
    wanted = components[task.component_ref.name].input_definitions.parameters
    for key, source in task.inputs.parameters.items():
        kind = source.WhichOneof("kind")
        given = _given_type(components, siblings, inputs, source)
        if given is not None and key in wanted and not _accepts(wanted[key].parameter_type, given):
            names = [ParameterTypes.Name(one) for one in (given, wanted[key].parameter_type)]
            yield f"{key}: is given a {names[0]}, and a {names[1]} is wanted"
        if kind == "component_input_parameter" and source.component_input_parameter not in inputs.parameters:
            yield f"{key}: the parameter {source.component_input_parameter!r} is not there"
        elif kind == "task_output_parameter":
            reference = source.task_output_parameter
            yield from _output(
                components, siblings, reference.producer_task, reference.output_parameter_key, "parameters"
            )
        elif kind == "runtime_value":
            for name in PLACEHOLDER.findall(source.runtime_value.constant.string_value):
                if name not in task.inputs.parameters:
                    yield f"{key}: the parameter {name!r} is not there"
    for key, artifact in task.inputs.artifacts.items():
        if artifact.WhichOneof("kind") == "task_output_artifact":
            produced = artifact.task_output_artifact
            yield from _output(components, siblings, produced.producer_task, produced.output_artifact_key, "artifacts")
        elif artifact.component_input_artifact not in inputs.artifacts:
            yield f"{key}: the artifact {artifact.component_input_artifact!r} is not there"


def _output(components: dict[str, Any], siblings: Any, task: str, key: str, kind: str) -> Iterator[str]:
    component = components.get(siblings[task].component_ref.name) if task in siblings else None
    if component is None or key not in getattr(component.output_definitions, kind):
        yield f"the output {key!r} of {task!r} is not there"


def _given_type(components: dict[str, Any], siblings: Any, inputs: Any, source: Any) -> int | None:
    """The declared type of what a parameter is set to; None of a constant, or where what is named is not there."""
    declared: Any = {}
    if source.WhichOneof("kind") == "component_input_parameter":
        name, declared = source.component_input_parameter, inputs.parameters
    elif source.WhichOneof("kind") == "task_output_parameter":
        name = source.task_output_parameter.output_parameter_key
        if source.task_output_parameter.producer_task in siblings:
            producer = siblings[source.task_output_parameter.producer_task].component_ref.name
            declared = components[producer].output_definitions.parameters if producer in components else {}
    return declared[name].parameter_type if declared and name in declared else None


def _accepts(wanted: int, given: int) -> bool:
    """Kubeflow's driver writes anything as a text, and refuses all else that is of another type."""
    numbers = {ParameterTypes.NUMBER_INTEGER, ParameterTypes.NUMBER_DOUBLE}
    return wanted in (ParameterTypes.STRING, given) or {wanted, given} <= numbers


def _parameters_of(config: Any) -> Iterator[str]:
    """The parameters that platform settings refer to, at any depth."""
    if isinstance(config, Mapping):
        yield from (value for key, value in config.items() if key == "componentInputParameter")
        config = list(config.values())
    if isinstance(config, list):
        for inner in config:
            yield from _parameters_of(inner)
