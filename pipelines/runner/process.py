"""Child processes that are watched line by line and never outlive the run."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 5.0


class Interrupted(SystemExit):
    """The run was asked to stop by a signal; the exit code is 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Turns SIGINT, SIGTERM and SIGHUP into `Interrupted`, so that every `with` block gets to clean up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)  # cleaning up is not interrupted a second time
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_process(command: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
    """Runs a command in a session of its own and hands over its output as it comes.

    Args:
        command: Program and arguments.
        env: All environment variables.
        on_line: Called with each line of standard output and standard error, without the line's end.

    Returns:
        The exit code.
    """
    process = subprocess.Popen(
        command,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101  (it was asked for above)
        with process.stdout as lines:
            for line in lines:
                on_line(line.rstrip("\n"))
        return process.wait()
    finally:
        _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    # The group, since a shell stands between this process and the stage.
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
