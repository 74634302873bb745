import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modalrec.errors import TrainingError
from modalrec.run import Run
from modalrec.training.batches import Batches, shuffled_plan
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.steps import Done, GradientSteps
from tests.training.killed import train

QUIET = Run("test", device="cpu", quiet=True)


class Line(nn.Module):
    """y = w x, with w to be found."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": ((batch["x"] * self.weight[0] - batch["y"]) ** 2).mean()}


class Points(Batches):
    def __init__(self, slope: float = 3.0, n: int = 64) -> None:
        self.x = torch.linspace(-1, 1, n)
        self.y = slope * self.x

    def plan(self, epoch: int) -> list[np.ndarray]:
        return shuffled_plan(len(self.x), 8, np.random.default_rng([0, epoch]))

    def build(self, epoch: int, step: int, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return {"x": self.x[indices], "y": self.y[indices]}


def config(**settings: object) -> TrainingConfig:
    return TrainingConfig.model_validate({"epochs": 30, "batch_size": 8, "learning_rate": 0.1, **settings})


def test_finds_the_slope_and_reports_every_epoch() -> None:
    model = Line()
    history = fit(model, Points(), config=config(), run=QUIET, fingerprint="x")
    assert model.weight.item() == pytest.approx(3, abs=0.1)
    assert [entry["epoch"] for entry in history] == list(range(1, 31))
    assert history[-1]["loss"] < history[0]["loss"] / 100


def test_keeps_the_weights_of_the_best_epoch_and_stops_after_patience() -> None:
    model, seen = Line(), []

    def validate() -> dict[str, float]:
        seen.append(model.weight.item())
        return {"ndcg_10": [0.1, 0.4, 0.3, 0.2, 0.1][len(seen) - 1]}

    history = fit(
        model, Points(), config=config(patience=2), run=QUIET, fingerprint="x", validate=validate, monitor="ndcg_10"
    )
    assert len(history) == 4
    assert model.weight.item() == seen[1]


def test_no_epochs_leave_the_model_as_it_was() -> None:
    model = Line()
    assert fit(model, Points(), config=config(epochs=0), run=QUIET, fingerprint="x") == []
    assert model.weight.item() == 0


@pytest.mark.fault("training")
def test_stops_at_a_loss_that_is_not_finite_before_the_weights_take_it() -> None:
    model, points = Line(), Points()
    points.y[5] = math.nan
    said = r"epoch 1, step \d+ \(batch \d+ of 8\): loss nan.*lower training.learning_rate"
    with pytest.raises(TrainingError, match=said):
        fit(model, points, config=config(), run=QUIET, fingerprint="x")
    assert torch.isfinite(model.weight).all()


def test_rate_warms_up_and_falls_to_zero() -> None:
    model, moves = Line(), []

    class Watched(Points):
        def build(self, epoch: int, step: int, indices: np.ndarray) -> dict[str, torch.Tensor]:
            moves.append(model.weight.item())
            return super().build(epoch, step, indices)

    fit(model, Watched(slope=1e6), config=config(epochs=10, warmup_steps=20), run=QUIET, fingerprint="x")
    sizes = np.abs(np.diff(moves))
    assert sizes[0] < sizes[10] < sizes[19]
    assert sizes[-1] < 0.01 * sizes.max()


def test_rate_falls_tenfold_after_each_epoch_that_is_no_better_but_not_below_the_lowest() -> None:
    """As FuxiCTR's: 1e-4 before the epochs 1 to 3, then 1e-5 and, twice, 1e-6."""
    model, measured, rates = Line(), iter([0.1, 0.2, 0.2, 0.1, 0.3, 0.1]), []

    class Watched(GradientSteps):
        def step(self, batch: dict[str, torch.Tensor], rate: float) -> Done:
            rates.append(rate)
            return super().step(batch, rate)

    model.steps = lambda config, seed, team: Watched(model, 0.0, 1.0)  # type: ignore[method-assign, attr-defined]
    fit(
        model,
        Points(),
        config=config(epochs=6, schedule="plateau", learning_rate=1e-4),
        run=QUIET,
        fingerprint="x",
        validate=lambda: {"auc": next(measured)},
        monitor="auc",
    )
    assert rates[::8] == pytest.approx([1e-4, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6])


@pytest.mark.fault("kill")
@pytest.mark.parametrize(("step", "name"), [(1, "SIGKILL"), (7, "SIGKILL"), (12, "SIGTERM")])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, step: int, name: str) -> None:
    number = getattr(signal, name)
    script = Path(__file__).with_name("killed.py")
    command = [sys.executable, str(script), str(tmp_path / "cut"), str(step), str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == (143 if name == "SIGTERM" else -number), ended.stderr
    assert any((tmp_path / "cut").rglob("step-*.pt"))
    resumed, whole = train(str(tmp_path / "cut")), train(str(tmp_path / "whole"))
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.fault("damaged")
@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    whole = train(str(tmp_path / "whole"))
    train(str(tmp_path / "cut"))
    newest, before = sorted((tmp_path / "cut").rglob("step-*.pt"))[::-1]
    content = newest.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    newest.write_bytes({"truncate": content[:middle], "flip": flipped, "empty": b""}[damage])
    resumed = train(str(tmp_path / "cut"))
    assert before.exists()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.fault("damaged")
def test_another_fingerprint_does_not_resume(tmp_path: Path) -> None:
    run = Run("test", device="cpu", checkpoints=str(tmp_path), quiet=True)
    fit(Line(), Points(), config=config(), run=run, fingerprint="a" * 64)
    other = Line()
    assert len(fit(other, Points(), config=config(epochs=1), run=run, fingerprint="b" * 64)) == 1
    assert other.weight.item() < 1.5
