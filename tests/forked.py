"""Recipes on this machine whose steps are forks of the test's process: they need not import everything again."""

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kfp.dsl.executor_main import executor_main


def run_forked(command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """In the place of `pipelines.runner.process.run_process`: the same Python, the same function, the same output."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _become(command, env, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            on_line(line.rstrip("\n"))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(command: Sequence[str], env: Mapping[str, str], write: int) -> None:
    """Never returns: the child ends with the step's exit code."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for place in (1, 2):
            os.dup2(write, place)
        sys.stdout, sys.stderr = (os.fdopen(place, "w", buffering=1, closefd=False) for place in (1, 2))
        os.environ.clear()
        os.environ.update({**env, "_KFP_RUNTIME": "true"})
        tempfile.tempdir = None
        _step(command)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # nobody may read any more
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _step(command: Sequence[str]) -> None:
    """What the command's shell would start: a component's source, and what it is called with."""
    begin = command.index("--executor_input")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "ephemeral_component.py"
        source.write_text(command[begin - 1])
        sys.argv = ["executor", "--component_module_path", str(source), *command[begin:]]
        executor_main()
