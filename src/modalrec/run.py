"""What a stage is given besides its inputs and its config: seed, device, progress, metric lines, checkpoints."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from modalrec.errors import ConfigError

T = TypeVar("T")


def place_in_team() -> tuple[int, int]:
    """The number of this process among those that `torchrun` started, and how many they are; 0 and 1 without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Run:
    """One execution of a stage.

    Attributes:
        stage: The stage's name, shown in progress lines.
        seed: Every random draw of the stage derives from it.
        device: A torch device name; `auto` is the GPU where there is one.
        checkpoints: Folder or `s3://` URI for checkpoints, or None to keep none.
        checkpoint_seconds: Time between checkpoints inside an epoch.
        quiet: Print no progress.
    """

    stage: str
    seed: int = 0
    device: str = "auto"
    checkpoints: str | None = None
    checkpoint_seconds: float = 30.0
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed: {self.seed} is negative; give 0 or more")

    def rng(self, *key: int | str) -> np.random.Generator:
        """A generator that depends on the seed and the key alone, so that a resumed run draws the same numbers."""
        return np.random.default_rng([self.seed, *(_number(part) for part in key)])

    def torch_device(self) -> str:
        """The device to put models on."""
        if self.device != "auto":
            return self.device
        import torch

        if not torch.cuda.is_available():
            return "cpu"
        place = os.environ.get("LOCAL_RANK")  # `torchrun` numbers the processes of a machine
        return "cuda" if place is None else f"cuda:{place}"

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator["Progress"]:
        """Shows how far a long piece of work is; one line every few seconds, or a moving line on a terminal."""
        progress = Progress(self.stage, what, total, self.quiet)
        try:
            yield progress
        finally:
            progress.close()

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Yields the items and shows the progress through them."""
        with self.progress(what, len(items) if total is None and isinstance(items, Sized) else total) as progress:
            for item in items:
                yield item
                progress.advance()

    def say(self, text: str) -> None:
        """Prints one line about the stage."""
        if not self.quiet:
            print(f"[{self.stage}] {text}", file=sys.stderr, flush=True)

    def metrics(self, **values: float) -> None:
        """Prints `name=value` lines to standard output, the form that Katib's collector reads."""
        if not self.quiet:
            for name, value in values.items():
                print(f"{name}={value:.6g}", flush=True)


@dataclass
class Progress:
    """Counts finished units and prints them with the expected time left."""

    stage: str
    what: str
    total: int | None
    quiet: bool = False
    done: int = 0
    _note: str = ""
    _begin: float = field(default_factory=time.monotonic)
    _shown: float = 0.0
    _first: int = 0

    def start_at(self, done: int) -> None:
        """Counts units that an earlier, interrupted run finished."""
        self.done = self._first = done

    def advance(self, units: int = 1, **values: float) -> None:
        """Adds finished units; `values` (a loss, a rate) are shown behind them."""
        self.done += units
        if values:
            self._note = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        interval = 0.2 if sys.stderr.isatty() else float(os.environ.get("MODALREC_PROGRESS_SECONDS", "5"))
        if time.monotonic() - max(self._shown, self._begin) >= interval:
            self._print(end="")

    def close(self) -> None:
        """Prints the last state."""
        self._print(end="\n")

    def _print(self, end: str) -> None:
        if self.quiet:
            return
        self._shown = time.monotonic()
        seconds = self._shown - self._begin
        share = f"{self.done:,}"
        total = max(self.total, self.done) if self.total else 0  # the total may be an estimate
        if total:
            share += f"/{total:,} ({100 * self.done / total:.0f} %)"
        fresh = self.done - self._first
        if end:
            when = f"in {seconds:.1f} s"
        elif total and fresh:
            when = f"{seconds * (total - self.done) / fresh:.0f} s left"
        else:
            when = f"{seconds:.0f} s"
        line = f"[{self.stage}] {self.what} {share}  {self._note}  {when}".replace("    ", "  ")
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end=end, file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _number(part: int | str) -> int:
    return part if isinstance(part, int) else int.from_bytes(part.encode(), "little")
