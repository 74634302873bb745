"""What a pipeline will run, in order: the orchestrator's own walk, with stages that do nothing."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.local import status
from kfp.pipeline_spec import pipeline_spec_pb2

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
            if not closes(task["component_spec"]):
                found.append(names[task["component_name"]])
            return nothing(task["component_spec"].output_definitions), status.Status.SUCCESS

        return run

    with replaced(note, lambda command, env: 0):
        pipeline(**arguments)
    return found


def closes(component_spec: Any) -> bool:
    """Whether this is the step that tells how the others ended: a run here says that itself."""
    kinds = pipeline_spec_pb2.ParameterType
    parameters = component_spec.input_definitions.parameters.values()
    return any(parameter.parameter_type == kinds.TASK_FINAL_STATUS for parameter in parameters)


def nothing(definitions: Any) -> dict[str, Any]:
    """Outputs of a step that did not run."""
    kinds = pipeline_spec_pb2.ParameterType.ParameterTypeEnum
    values = {name: EMPTY[kinds.Name(spec.parameter_type)] for name, spec in definitions.parameters.items()}
    return {**values, **{name: dsl.Artifact(name=name) for name in definitions.artifacts}}
