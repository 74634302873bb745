"""Reading a trial's metrics back, as Katib's collector does.

After `file-metricscollector.go` of Katib 0.19: a text is searched line by line with regular expressions whose first
group is a name and whose second is a value; of a JSON line only values that are strings count. A metric may be printed
many times; an experiment's strategy takes the least, the greatest or the last.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_FILTER = r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)"
"""What Katib searches with where an experiment has no filter: `name=value`."""

STRATEGIES = ("min", "max", "latest")


@dataclass(frozen=True)
class Collector:
    """Where an experiment's metrics come from.

    Attributes:
        kind: StdOut, which is both streams of the command, or File.
        path: The file, for File.
        form: TEXT, or JSON for one object a line.
        filters: Regular expressions for texts; empty for Katib's own.
    """

    kind: str = "StdOut"
    path: str = ""
    form: str = "TEXT"
    filters: tuple[str, ...] = ()

    def read(self, lines: Iterable[str], metrics: Iterable[str]) -> Iterator[tuple[str, str]]:
        """The names and values of wanted metrics, in order.

        Args:
            lines: Lines without their ends.
            metrics: Names of the wanted ones.

        Raises:
            ValueError: A line of a JSON file is no JSON object; Katib gives up such a trial.
        """
        wanted = tuple(metrics)
        for line in lines:
            yield from self._json(line, wanted) if self.form == "JSON" else self._text(line, wanted)

    def _text(self, line: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if not any(name in line for name in wanted):
            return
        for pattern in self.filters or (DEFAULT_FILTER,):
            for match in re.finditer(pattern, line, re.ASCII):
                if len(match.groups()) >= 2 and (name := (match[1] or "").strip()) in wanted:
                    yield name, (match[2] or "").strip()

    def _json(self, line: str, wanted: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if not line:
            return
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError(f"{line!r} is not a JSON object")
        yield from ((name, found[name]) for name in wanted if isinstance(found.get(name), str))


@dataclass
class Follower:
    """Reads what a growing file has got since the last time; the rest of an unfinished line waits."""

    path: Path
    _at: int = 0
    _rest: bytes = b""

    def lines(self, finished: bool = False) -> list[str]:
        """New lines; with `finished` also a last one without an end."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            new = file.read()
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        if finished and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]


@dataclass
class Observation:
    """All values that a trial has reported, by metric, in order."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, text: str) -> None:
        """Takes one value; what is no finite number, such as the empty match of `name=nan`, is left out."""
        try:
            value = float(text)
        except ValueError:
            return
        if math.isfinite(value):
            self.values.setdefault(name, []).append(value)

    def value(self, name: str, strategy: str) -> float | None:
        """One metric by a strategy, or None where it was never reported."""
        found = self.values.get(name)
        if not found:
            return None
        return found[-1] if strategy == "latest" else min(found) if strategy == "min" else max(found)
