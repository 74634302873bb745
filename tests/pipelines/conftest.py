"""The toy pipeline, ready to run in a folder of its own."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modalrec.artifacts.embedded import EmbeddedStore
from pipelines.runner.local import LocalRun
from tests.pipelines.toy import pipeline


@dataclass
class Toy:
    folder: Path
    shown: io.StringIO = field(default_factory=io.StringIO)
    server: EmbeddedStore | None = None

    @property
    def journal(self) -> list[str]:
        path = self.folder / "journal"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def steps(self) -> list[str]:
        return [line.split()[0] for line in self.journal]

    def trouble(self, what: str) -> None:
        (self.folder / "trouble").write_text(what)

    def run(self, cache: bool = True, **arguments: Any) -> list[str]:
        """Runs it and returns what was shown."""
        self.shown = io.StringIO()
        given = {"journal": str(self.folder / "journal"), "trouble": str(self.folder / "trouble"), **arguments}
        LocalRun("toy", pipeline, given, self.folder / "out", cache, self.shown).run()
        return self.shown.getvalue().splitlines()


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


@pytest.fixture
def served(toy: Toy) -> Iterator[Toy]:
    """The toy whose store runs throughout the test; each run would start and stop it otherwise."""
    with EmbeddedStore(toy.folder / "out" / "store") as server:
        toy.server = server
        yield toy
