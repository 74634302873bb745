"""What a run shows and draws."""

import re

import numpy as np
import pytest

from modalrec.errors import ConfigError
from modalrec.run import Run


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODALREC_PROGRESS_SECONDS", "0")


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines, with T for every time."""
    return [re.sub(r"[\d.]+ s", "T", line) for line in capsys.readouterr().err.splitlines()]


def test_progress_tells_share_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    with Run("quantize").progress("items", 4) as progress:
        progress.start_at(1)
        progress.advance(loss=0.25)
        progress.advance(2)
    assert shown(capsys) == [
        "[quantize] items 2/4 (50 %)  loss 0.25  T left",
        "[quantize] items 4/4 (100 %)  loss 0.25  T left",
        "[quantize] items 4/4 (100 %)  loss 0.25  in T",
    ]


def test_more_than_was_expected_is_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Run("finetune").progress("training", 2) as progress:
        progress.advance(3)
    assert [line.partition("  ")[0] for line in shown(capsys)] == ["[finetune] training 3/3 (100 %)"] * 2


def test_nothing_to_do_and_unknown_sizes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for total in (0, None):
        with Run("ingest").progress("rows", total):
            pass
    assert shown(capsys) == ["[ingest] rows 0  in T"] * 2
    assert list(Run("ingest", quiet=True).track("ab", "letters")) == ["a", "b"]
    assert shown(capsys) == []


def test_draws_depend_on_seed_and_key_alone() -> None:
    draws = [
        Run("a", seed).rng(*key).integers(1 << 30) for seed, *key in ((1, "x", 2), (1, "x", 2), (1, "y"), (2, "x", 2))
    ]
    assert draws[0] == draws[1]
    assert len(np.unique(draws)) == 3
    with pytest.raises(ConfigError, match="seed: -1 is negative; give 0 or more"):
        Run("a", -1)
