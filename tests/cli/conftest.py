import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modalrec.cli import main
from tests.raw import write_atomic

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs the command in this process: exit code, standard output, standard error."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modalrec", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def dataset(cli: Cli, tmp_path: Path) -> Path:
    source = write_atomic(tmp_path / "raw")
    code, _, err = cli("ingest", "--source", source, "--dataset", tmp_path / "dataset", "--preset", "tiny")
    assert code == 0, err
    return tmp_path / "dataset"
