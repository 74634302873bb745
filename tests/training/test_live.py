"""TensorBoard while training: an epoch is seen when it has ended, and a resumed run goes on in its own curve."""

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modalrec.run import Run
from modalrec.training.loop import fit
from tests.training.test_loop import Line, Points, config


def curve(folder: Path) -> list[tuple[int, float]]:
    (run,) = folder.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    known = "curves/loss" in events.Tags()["scalars"]
    return [(event.step, event.value) for event in events.Scalars("curves/loss")] if known else []


def test_who_watches_sees_every_epoch_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODALREC_TENSORBOARD", str(tmp_path / "watched"))
    run = Run("finetune", device="cpu", quiet=True, checkpoints=str(tmp_path / "checkpoints"))
    ended = [0]

    def validate() -> dict[str, float]:
        """Is called before an epoch has ended; those before it are in the file, within a while."""
        deadline = time.monotonic() + 60
        while ended[0] and len(curve(tmp_path / "watched")) < ended[0]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        ended[0] += 1
        return {"auc": 0.5}

    for epochs in (3, 5):
        settings = config(epochs=epochs)
        history = fit(
            Line(), Points(), config=settings, run=run, fingerprint="f" * 64, validate=validate, monitor="auc"
        )
    assert ended == [5]
    found = curve(tmp_path / "watched")
    assert [step for step, _ in found] == [1, 2, 3, 4, 5]
    assert [value for _, value in found] == pytest.approx([entry["loss"] for entry in history])
    assert [path.name for path in (tmp_path / "watched").iterdir()] == ["finetune-ffffffffffff"]


def test_nobody_watches_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODALREC_TENSORBOARD", raising=False)
    monkeypatch.chdir(tmp_path)
    fit(Line(), Points(), config=config(epochs=1), run=Run("finetune", device="cpu", quiet=True), fingerprint="x")
    assert list(tmp_path.iterdir()) == []
