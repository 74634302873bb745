"""What a run shows: one line as a stage starts, its progress, one line as it ends. All else goes to the log."""

import re
import shutil
import time
from collections import deque
from typing import TextIO

STAGE_LINE = re.compile(r"\[[a-z_]+\] ")
ERROR = "error: "
TAIL = 12


class Terminal:
    """Progress for people.

    Args:
        stream: Where lines are shown.
        log: Where everything goes.
        stages: Titles of all stages in the order they run.
    """

    def __init__(self, stream: TextIO, log: TextIO, stages: list[str]) -> None:
        self._stream = stream
        self._log = log
        self._stages = stages
        self._number = 0
        self._begin = 0.0
        self._moving = False
        self._errors: list[str] = []
        self._tail: deque[str] = deque(maxlen=TAIL)

    def start(self, title: str) -> None:
        """A stage begins."""
        self._number += 1
        self._begin = time.monotonic()
        self._errors.clear()
        self._tail.clear()
        following = self._stages[self._number : self._number + 1]
        self._head(title, f"next: {following[0]}" if following else "the last one")

    def done(self, title: str) -> None:
        """A stage has ended well."""
        self._head(title, f"done in {time.monotonic() - self._begin:.1f} s")

    def cached(self, title: str) -> None:
        """A stage's results were there already."""
        self._head(title, "cached")

    def say(self, text: str) -> None:
        """Shows a line and logs it."""
        if self._moving:
            print(file=self._stream)
            self._moving = False
        print(text, file=self._stream, flush=True)
        self._write(text)

    def line(self, text: str) -> None:
        """Takes a line of a stage's output: its progress is shown, its errors are kept, everything is logged."""
        self._write(text)
        if text.startswith(ERROR):
            self._errors.append(text.removeprefix(ERROR))
        if text.strip():
            self._tail.append(text)
        if STAGE_LINE.match(text):
            self._show(f"          {text}")

    def reason(self) -> str:
        """What the stage said of its failure: its error message, or else its last lines."""
        return "\n".join(self._errors or self._tail) or "it said nothing"

    def _head(self, title: str, text: str) -> None:
        total = len(self._stages)
        self.say(f"[{self._number:>{len(str(total))}}/{total}] {title:<22}  {text}")

    def _show(self, text: str) -> None:
        if not self._stream.isatty():
            print(text, file=self._stream, flush=True)
            return
        # On a terminal an unfinished count is overwritten by the next line.
        width = shutil.get_terminal_size().columns - 1
        start = "\r\x1b[K" if self._moving else ""
        self._moving = text.endswith(" s left")
        print(f"{start}{text[:width]}", end="" if self._moving else "\n", file=self._stream, flush=True)

    def _write(self, text: str) -> None:
        print(text, file=self._log, flush=True)
