"""Strict validation of a compiled pipeline: what the API server would find only when a run starts, or never."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from modalrec.errors import ConfigError, Problems

PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['([^']+)'\]\}\}")


def validate(text: str, name: str) -> pipeline_spec_pb2.PipelineSpec:
    """Parses both YAML documents into their protobufs and resolves every reference.

    Args:
        text: The compiled pipeline: a PipelineSpec and, where it has one, a PlatformSpec.
        name: How to call it in messages.

    Returns:
        The pipeline's specification.

    Raises:
        ConfigError: An unknown field, or a reference to a component, executor, task, input or output that is not
            there.
    """
    documents = [document for document in yaml.safe_load_all(text) if document]
    problems = Problems(name, ConfigError)
    spec = pipeline_spec_pb2.PipelineSpec()
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    if not documents:
        problems.add("", "is empty")
    elif _parsed(documents[0], spec, "pipeline", problems):
        executors = json_format.MessageToDict(spec.deployment_spec)
        _parsed(executors, deployment, "deploymentSpec", problems)
        _check_references(spec, set(deployment.executors), problems)
    for document in documents[1:]:
        _check_platform(document, set(deployment.executors), problems)
    problems.raise_if_any("Compile the recipe again with `make compile`; compiled files are not edited.")
    return spec


def _parsed(document: Mapping[str, Any], message: Any, where: str, problems: Problems) -> bool:
    try:
        json_format.ParseDict(document, message)
    except json_format.ParseError as error:
        problems.add(where, str(error))
        return False
    return True


def _check_platform(document: Mapping[str, Any], executors: set[str], problems: Problems) -> None:
    if not _parsed(document, pipeline_spec_pb2.PlatformSpec(), "platforms", problems):
        return
    configs = document["platforms"].get("kubernetes", {}).get("deploymentSpec", {}).get("executors", {})
    for label, config in configs.items():
        if label not in executors:
            problems.add(label, "a platform configuration for an executor that is not there")
        _parsed(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig(), label, problems)


def _check_references(spec: Any, executors: set[str], problems: Problems) -> None:
    used: set[str] = set()
    for name, component in [("root", spec.root), *spec.components.items()]:
        if component.WhichOneof("implementation") == "dag":
            for task_name, task in component.dag.tasks.items():
                used.add(task.component_ref.name)
                for problem in _task_problems(spec, component, task):
                    problems.add(f"{name}: {task_name}", problem)
        elif component.executor_label not in executors:
            problems.add(name, f"executor {component.executor_label!r} is not there")
    problems.extend(sorted(set(spec.components) - used), "a component that no task uses")


def _task_problems(spec: Any, parent: Any, task: Any) -> Iterator[str]:
    siblings, inputs = parent.dag.tasks, parent.input_definitions
    if task.component_ref.name not in spec.components:
        yield f"component {task.component_ref.name!r} is not there"
        return
    yield from (f"depends on {name!r}, which is not there" for name in task.dependent_tasks if name not in siblings)
    for key, source in task.inputs.parameters.items():
        kind = source.WhichOneof("kind")
        if kind == "component_input_parameter" and source.component_input_parameter not in inputs.parameters:
            yield f"{key}: the parameter {source.component_input_parameter!r} is not there"
        elif kind == "task_output_parameter":
            reference = source.task_output_parameter
            yield from _output(spec, siblings, reference.producer_task, reference.output_parameter_key, "parameters")
        elif kind == "runtime_value":
            for name in PLACEHOLDER.findall(source.runtime_value.constant.string_value):
                if name not in task.inputs.parameters:
                    yield f"{key}: the parameter {name!r} is not there"
    for key, artifact in task.inputs.artifacts.items():
        if artifact.WhichOneof("kind") == "task_output_artifact":
            produced = artifact.task_output_artifact
            yield from _output(spec, siblings, produced.producer_task, produced.output_artifact_key, "artifacts")
        elif artifact.component_input_artifact not in inputs.artifacts:
            yield f"{key}: the artifact {artifact.component_input_artifact!r} is not there"


def _output(spec: Any, siblings: Any, task: str, key: str, kind: str) -> Iterator[str]:
    component = spec.components[siblings[task].component_ref.name] if task in siblings else None
    if component is None or key not in getattr(component.output_definitions, kind):
        yield f"the output {key!r} of {task!r} is not there"
