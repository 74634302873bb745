"""Processes to be killed: forked from a server that has imported everything, so that one costs milliseconds.

The server is a clean process, not the one that runs pytest: no thread, lock or random state of other tests gets in.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from modalrec.training import loop

PRELOADED = [
    "torch._dynamo",
    "tests.faults.tiny",
    *(f"modalrec.stages.{name}" for name in ("train", "quantize", "fuse")),
]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


def in_child(work: Callable[..., Any], *arguments: Any, seconds: float = 120) -> int:
    """Runs a function of a module in a process of its own; gives its exit code, negative for a signal."""
    child = _CONTEXT.Process(target=work, args=arguments)
    child.start()
    child.join(seconds)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise TimeoutError(f"{work.__name__}{arguments}: still running after {seconds} s")
    return child.exitcode


COMPILED = (".nbi", ".nbc")
"""What numba keeps of kernels where they are compiled for the first time: no moment of the run."""


class Moments:
    """Numbers the moments of a run and kills it at one of them.

    A moment is a batch that is asked for, an fsync or a rename: they come in the same order in every run. Between them
    a run is killed by the processor time it has used, which no load of the machine changes.

    Attributes:
        count: How many moments have passed.
    """

    def __init__(self, at: int = 0, *, seconds: float = 0, rename_to: str = "", number: int = signal.SIGKILL) -> None:
        self.count, self.at, self.seconds, self.rename_to, self.number = 0, at, seconds, rename_to, number

    def watch(self) -> "Moments":
        """Begins to count, until the process ends."""
        loop._batch = self._before(loop._batch)
        os.fsync = self._before(os.fsync)
        os.replace = self._before(os.replace)
        if self.seconds:
            signal.signal(signal.SIGPROF, lambda *_: self._die())
            signal.setitimer(signal.ITIMER_PROF, self.seconds)
        return self

    def _before(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            if str(arguments[-1]).endswith(COMPILED):
                return work(*arguments, **named)
            self.count += 1
            if self.count == self.at or (self.rename_to and str(arguments[-1]) == self.rename_to):
                self._die()
            return work(*arguments, **named)

        return watched

    def _die(self) -> None:
        os.kill(os.getpid(), self.number)
