"""What a pipeline will run, in order: the orchestrator's own walk, with stages that do nothing.

But for `configure`, which says how many parts a stage runs in.
"""

import json
from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.local import status
from kfp.pipeline_spec import pipeline_spec_pb2

from components.execute import configure_stages
from pipelines.runner.seam import Outputs, RunTask, replaced

EMPTY = {"STRING": "", "NUMBER_INTEGER": 0, "NUMBER_DOUBLE": 0.0, "BOOLEAN": False, "LIST": [], "STRUCT": {}}


def titles(spec: Any) -> dict[str, str]:
    """From component to the title of its task; Kubeflow writes the names of functions with hyphens."""
    dags = [spec.root.dag, *(component.dag for component in spec.components.values() if component.HasField("dag"))]
    return {
        task.component_ref.name: task.task_info.name.replace("-", "_") for dag in dags for task in dag.tasks.values()
    }


def plan(pipeline: Any, arguments: Mapping[str, Any]) -> list[str]:
    """The titles of the stages that a pipeline runs with these arguments, in order; kfp.local must be initialised."""
    names = titles(pipeline.pipeline_spec)
    found: list[str] = []

    def note(_: RunTask) -> RunTask:
        def run(**task: Any) -> Outputs:
            spec, given, title = task["component_spec"], task["arguments"], names[task["component_name"]]
            outputs = passed(spec, given)
            if outputs is None:
                found.append(titled(title, given))
                outputs = (
                    configure_stages(**given)._asdict() if title == "configure" else nothing(spec.output_definitions)
                )
            return outputs, status.Status.SUCCESS

        return run

    with replaced(note, lambda command, env: 0, lambda **container: 0):
        pipeline(**arguments)
    return found


def titled(title: str, arguments: Mapping[str, Any]) -> str:
    """The title of a step, with the number of its part where it is one of several."""
    parts = json.loads(arguments["config"]).get("parts", 1) if "part" in arguments and arguments["config"] else 1
    return title if parts == 1 else f"{title} {int(arguments['part']) + 1} of {parts}"


def passed(component_spec: Any, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The outputs of a step that has nothing to do here; None where it has.

    These are the step that tells how the others ended, which a run here tells by itself, and the one that joins parts,
    where there is a single part, which is the whole.
    """
    kinds = pipeline_spec_pb2.ParameterType
    inputs, empty = component_spec.input_definitions, nothing(component_spec.output_definitions)
    if any(parameter.parameter_type == kinds.TASK_FINAL_STATUS for parameter in inputs.parameters.values()):
        return empty
    parts = [arguments[name] for name, artifact in inputs.artifacts.items() if artifact.is_artifact_list]
    joins = "embeddings" in empty and len(parts) == 1 and len(parts[0]) == 1
    return {**empty, "embeddings": parts[0][0]} if joins else None


def nothing(definitions: Any) -> dict[str, Any]:
    """Outputs of a step that did not run."""
    kinds = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    values = {name: EMPTY[kinds.Name(spec.parameter_type)] for name, spec in definitions.parameters.items()}
    return {**values, **{name: dsl.Artifact(name=name) for name in definitions.artifacts}}
