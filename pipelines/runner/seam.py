"""The two private functions of kfp.local that a run through the store takes the place of.

kfp.local keeps artifacts in local folders and mixes its own log with the stages'. On a cluster a launcher brings every
artifact from the store and takes it back there; to do the same here, `run_single_task_implementation` is wrapped. The
processes are started by our own function, which knows their exit codes and can stop them.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kfp
from kfp.local import subprocess_task_handler, task_dispatcher

from modalrec.errors import UpstreamError

Outputs = tuple[dict[str, Any], Any]
RunTask = Callable[..., Outputs]
RunProcess = Callable[[list[str], Mapping[str, str] | None], int]

SEAMS = (
    (
        task_dispatcher,
        "run_single_task_implementation",
        ("component_name", "component_spec", "arguments", "pipeline_root"),
    ),
    (subprocess_task_handler, "run_local_subprocess", ("full_command", "env_vars")),
)


@contextmanager
def replaced(run_task: Callable[[RunTask], RunTask], run_process: RunProcess) -> Iterator[None]:
    """Puts own functions in the place of kfp's, and kfp's back at the end.

    Args:
        run_task: Gets kfp's function that runs one task and returns the one to use.
        run_process: Runs a command with additional environment variables and returns its exit code.

    Raises:
        UpstreamError: This release of kfp has other functions there.
    """

    def start(full_command: list[str], env_vars: Mapping[str, str] | None = None) -> int:
        return run_process(full_command, env_vars)

    originals = [_original(module, name, needed) for module, name, needed in SEAMS]
    try:
        for (module, name, _), new in zip(SEAMS, (run_task(originals[0]), start), strict=True):
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
