"""What a training loop asks of steps: losses weighted by what they are of, resumable state, refusal of NaN."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modalrec.errors import TrainingError
from modalrec.run import Run
from modalrec.training.batches import Batches
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.steps import Done, GradientSteps, HasSteps, Steps
from modalrec.training.team import Team


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 1))
        self.bias = nn.Parameter(torch.ones(1))

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        loss = (batch @ self.weight + self.bias).square().mean()
        return {"loss": loss, "half": loss / 2}


class Counting(Steps):
    """Reports its batches as losses."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.finished = 0

    def step(self, batch: Tensor, rate: float) -> Done:
        self.seen.append(batch.item())
        return Done({"loss": batch.item()}, weight=batch.item(), batches=4, events=10)

    def state_dict(self) -> dict[str, list[float]]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self.seen = list(state["seen"])

    def finish(self) -> None:
        self.finished += 1


class Own(nn.Linear):
    """A model that brings its own steps."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.moving = Counting()

    def steps(self, config: TrainingConfig, seed: int, team: Team) -> Steps:
        return self.moving


class Numbers(Batches):
    def plan(self, epoch: int) -> list[np.ndarray]:
        return [np.array([number]) for number in (1, 2, 3)]

    def build(self, epoch: int, step: int, indices: np.ndarray) -> Tensor:
        return torch.tensor(float(indices[0]))


QUIET = Run("test", device="cpu", quiet=True)


def test_a_model_with_steps_of_its_own_is_trained_by_them() -> None:
    model = Own()
    assert isinstance(model, HasSteps)
    speed: dict[str, float] = {}
    history = fit(model, Numbers(), config=TrainingConfig(epochs=2), run=QUIET, fingerprint="x", speed=speed)
    assert model.moving.seen == [1, 2, 3, 1, 2, 3]
    assert model.moving.finished == 1
    assert [entry["loss"] for entry in history] == [pytest.approx((1 + 4 + 9) / 6)] * 2
    assert set(speed) == {"seconds_per_epoch", "batches_per_second", "events_per_second"}
    assert speed["events_per_second"] == pytest.approx(speed["batches_per_second"] * 10 / 4, rel=1e-2)


def test_a_model_without_steps_takes_gradient_steps() -> None:
    assert not isinstance(Line(), HasSteps)
    model = Line()
    steps = GradientSteps(model, 0.5, 0.0)
    done = steps.step(torch.ones(4, 2), 0.1)
    assert done.losses == {"loss": 9, "half": 4.5}
    assert done.weight == done.batches == 1
    assert (model.weight < 1).all()


def test_decay_spares_vectors() -> None:
    groups = {len(group["params"][0].shape): group for group in GradientSteps(Line(), 0.5, 0.0).optimizer.param_groups}
    assert groups[2]["weight_decay"] == 0.5
    assert groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_before_weights_take_it(bad: float) -> None:
    model = Line()
    steps = GradientSteps(model, 0.0, 1.0)
    with pytest.raises(TrainingError, match="loss"):
        steps.step(torch.full((4, 2), bad), 0.1)
    assert (model.weight == 1).all()


def test_gradient_steps_resume_to_the_same_bits() -> None:
    first, second = Line(), Line()
    steps = GradientSteps(first, 0.1, 1.0)
    batches = [torch.randn(4, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(6)]
    for batch in batches[:3]:
        steps.step(batch, 0.1)
    second.load_state_dict(first.state_dict())
    resumed = GradientSteps(second, 0.1, 1.0)
    resumed.load_state_dict(copy.deepcopy(steps.state_dict()))
    for batch in batches[3:]:
        steps.step(batch, 0.1)
        resumed.step(batch, 0.1)
    assert torch.equal(first.weight, second.weight)
