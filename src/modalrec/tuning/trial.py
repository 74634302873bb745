"""One trial: the command in a process of its own, its output in a file, its metrics read while they come."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from modalrec.errors import UpstreamError
from modalrec.pids import writers
from modalrec.stages.tracking import ADDRESS
from modalrec.tuning.collector import Collector, Follower, Observation
from modalrec.tuning.template import Command

LOG = "log.txt"
GRACE_SECONDS = 10.0
POLL_SECONDS = 0.1
TOLD = 5
"""Lines of a failed trial's log that stand for its error where it said none."""


class TrialProcess:
    """A running trial.

    Args:
        command: What to run.
        folder: The trial's folder; its log is written there, and the file of a File collector.
        collector: How its metrics are read.
        metrics: Names of the wanted metrics, the objective first.
    """

    def __init__(self, command: Command, folder: Path, collector: Collector, metrics: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.observation = folder, Observation()
        self.began = time.monotonic()
        self.stopped = False
        self._collector, self._metrics = collector, tuple(metrics)
        words = [_inside(folder, word, collector.path) if collector.kind == "File" else word for word in command.words]
        self._follower = Follower(folder / (LOG if collector.kind == "StdOut" else Path(collector.path).name))
        with (folder / LOG).open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise UpstreamError(
                    f"{words[0]}: cannot be started ({error.strerror}); the trial's command must be a program here too"
                ) from None

    @property
    def seconds(self) -> float:
        """Time since its start."""
        return time.monotonic() - self.began

    def poll(self) -> int | None:
        """Reads new metrics; the exit code, or None while it runs."""
        code = self._process.poll()
        for name, text in self._collector.read(self._follower.lines(code is not None), self._metrics):
            self.observation.add(name, text)
        return code

    def stop(self) -> None:
        """Ends the process and all that it started, politely at first: training then leaves a checkpoint."""
        self.stopped = True
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return
            try:
                self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                continue

    def error(self, code: int) -> str:
        """What it said of its failure: its error lines, or else its last ones; or what killed it."""
        if code < 0:
            return f"killed by {signal.Signals(-code).name}{' (out of memory?)' if code == -signal.SIGKILL else ''}"
        lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return "\n".join(told or [line for line in lines if line.strip()][-TOLD:])


def stop_left(folder: Path) -> None:
    """Ends a trial that has outlived its search, which was killed: it holds the checkpoints, and does the work twice.

    Args:
        folder: The trial's folder.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in writers(folder / LOG):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while writers(folder / LOG) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def environment() -> Mapping[str, str]:
    """This process's, with the programs of this Python before all others: `modalrec` is the one that runs here.

    Without MLflow's address: the search itself puts its trials in, those too that fail or are ended early.
    """
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    return {name: value for name, value in os.environ.items() if name != ADDRESS} | {"PATH": path}


def _inside(folder: Path, word: str, path: str) -> str:
    """A word of the command with the File collector's path, a container's, moved into the trial's folder."""
    return word.replace(path, str(folder / Path(path).name))
