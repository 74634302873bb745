"""The four private functions of kfp.local that a run through the store takes the place of.

kfp.local keeps artifacts in local folders and mixes its own log with the stages'. On a cluster a launcher brings every
artifact from the store and takes it back there; to do the same here, `run_single_task_implementation` is wrapped. The
processes and containers are started by our own functions, which know their exit codes and can stop them. A loop runs
its rounds one after another in this thread, where a signal can stop them; kfp's own function runs them in threads, and
gives each the loop's item in the place of every output of an earlier step.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kfp
from kfp.compiler.pipeline_spec_builder import to_protobuf_value
from kfp.local import docker_task_handler, status, subprocess_task_handler, task_dispatcher
from kfp.local.orchestrator import enhanced_dag_orchestrator
from kfp.local.orchestrator.orchestrator_utils import OrchestratorUtils

from modalrec.errors import UpstreamError

Outputs = tuple[dict[str, Any], Any]
RunTask = Callable[..., Outputs]
RunProcess = Callable[[list[str], Mapping[str, str] | None], int]
RunContainer = Callable[..., int]

SEAMS = (
    (
        task_dispatcher,
        "run_single_task_implementation",
        ("component_name", "component_spec", "arguments", "pipeline_root"),
    ),
    (subprocess_task_handler, "run_local_subprocess", ("full_command", "env_vars")),
    (docker_task_handler, "run_docker_container", ("client", "image", "command", "volumes")),
    (
        enhanced_dag_orchestrator,
        "_run_parallel_for_task",
        ("task_name", "task_spec", "io_store", "fail_stack", "parallel_executor"),
    ),
)


@contextmanager
def replaced(
    run_task: Callable[[RunTask], RunTask], run_process: RunProcess, run_container: RunContainer
) -> Iterator[None]:
    """Puts own functions in the place of kfp's, and kfp's back at the end.

    Args:
        run_task: Gets kfp's function that runs one task and returns the one to use.
        run_process: Runs a command with additional environment variables and returns its exit code.
        run_container: Runs a command in a container, `client`, `image`, `command`, `volumes` and options, likewise.

    Raises:
        UpstreamError: This release of kfp has other functions there.
    """

    def start(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        return run_process(full_command, env_vars)

    originals = [_original(module, name, needed) for module, name, needed in SEAMS]
    try:
        for (module, name, _), new in zip(
            SEAMS, (run_task(originals[0]), start, run_container, _run_loop), strict=True
        ):
            setattr(module, name, new)
        yield
    finally:
        for (module, name, _), old in zip(SEAMS, originals, strict=True):
            setattr(module, name, old)


def _original(module: Any, name: str, needed: tuple[str, ...]) -> Any:
    function = getattr(module, name, None)
    if function is None or not set(needed) <= set(inspect.signature(function).parameters):
        raise UpstreamError(
            f"kfp {kfp.__version__}: {module.__name__}.{name} is not as in 2.17; install kfp>=2.17,<2.18 (`make setup`)"
        )
    return function


def _run_loop(
    *, task_name: str, task_spec: Any, io_store: Any, fail_stack: list[str], parallel_executor: Any, **common: Any
) -> bool:
    """Runs the rounds of a loop over a parameter; gives whether one failed."""
    given = OrchestratorUtils.make_task_arguments(task_spec.inputs, io_store)
    loop = task_spec.parameter_iterator
    rounds: list[dict[str, Any]] = []
    for number, item in enumerate(given[loop.items.input_parameter]):
        one = type(task_spec)()
        one.CopyFrom(task_spec)
        one.ClearField("parameter_iterator")
        one.inputs.parameters[loop.item_input].runtime_value.constant.CopyFrom(to_protobuf_value(item))
        name = f"{task_name}-iteration-{number}"
        outputs, state = enhanced_dag_orchestrator.execute_task(
            task_name=name, task_spec=one, io_store=io_store, fail_stack=fail_stack, **common
        )
        if state != status.Status.SUCCESS:
            fail_stack.append(name)
            return True
        rounds.append(outputs)
    for output in rounds[0] if rounds else ():
        io_store.put_task_output(task_name, output, [outputs[output] for outputs in rounds])
    io_store.put_task_status(task_name, "SUCCEEDED")
    return False
