"""Optimizer steps that learn from a group of batches, shared out among processes.

The gradient of a step is the mean of its batches' gradients. Each batch draws from a generator that depends on the seed
and its place alone, so it does not matter which process computes it. Two processes with a batch each train the same
model to the bit as one process that does both; with more, the order of a sum differs, and with it the rounding.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from modalrec.errors import TrainingError
from modalrec.training.steps import Done, GradientSteps
from modalrec.training.team import Team


@dataclass(frozen=True)
class Group:
    """The batches of an optimizer step.

    Attributes:
        epoch: The epoch.
        first: Place of the first batch in the epoch's plan.
        count: How many batches.
        build: Makes the batch at a place, on the device.
    """

    epoch: int
    first: int
    count: int
    build: Callable[[int], Any]

    def shares(self, team: Team, seed: int) -> Iterator[tuple[Any, float]]:
        """The batches that this process computes, each with its weight in the mean; what they draw is seeded.

        A process without a batch computes the first one for nothing: all must exchange the same tensors.
        """
        for place in range(team.rank, self.count, team.size) or [0]:
            self.draw_from(seed, place)
            yield self.build(self.first + place), 1 / self.count if place % team.size == team.rank else 0.0

    def draw_from(self, seed: int, *place: int) -> None:
        """Seeds what is drawn next by the place of a batch, or -1 and `count` for before and behind all."""
        key = [seed, self.epoch, self.first, *(number + 1 for number in place)]
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))

    def in_order(self, team: Team, rows: list[Tensor]) -> list[Tensor]:
        """The rows of all batches from those of this process, which has every size-th one, perhaps none at the end."""
        mine = len(range(team.rank, self.count, team.size))
        sent = [rows[n] if n < mine else rows[0][:0] for n in range(math.ceil(self.count / team.size))]
        return [part for each in sent for part in team.gather(each)][: self.count]


@runtime_checkable
class LearnsByItself(Protocol):
    """A part of a model that changes in training by more than gradients: it must do so once a group, not a batch."""

    def begin_group(self) -> None:
        """Is called before the losses of a group; from now on `loss` changes nothing."""

    def end_group(self, gather: Callable[[list[Tensor]], Tensor]) -> None:
        """Is called before the optimizer's step.

        Args:
            gather: From rows of each batch of this process to the rows of all batches of the group, in their order.
        """


class GroupSteps(GradientSteps):
    """AdamW on the mean gradient of a group of batches.

    Args:
        model: Has `loss(batch)`.
        weight_decay: Of matrices.
        clip_norm: Largest norm of the mean gradient; 0 does not clip.
        seed: Of all random draws.
        team: The processes that share the batches.
    """

    def __init__(self, model: nn.Module, weight_decay: float, clip_norm: float, seed: int, team: Team) -> None:
        super().__init__(model, weight_decay, clip_norm)
        self.seed, self.team = seed, team
        self.trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.learners = [part for part in model.modules() if isinstance(part, LearnsByItself)]

    def step(self, batch: Group, rate: float) -> Done:
        """Learns from a group; nothing of it is kept where a loss or the gradient is not finite."""
        group, team = batch, self.team
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)
        group.draw_from(self.seed, -1)
        for learner in self.learners:
            learner.begin_group()
        totals: dict[str, Tensor] = {}
        for one, share in group.shares(team, self.seed):
            losses: dict[str, Tensor] = self.model.loss(one)  # type: ignore[operator]
            (losses["loss"] * share).backward()
            for name, value in losses.items():
                totals[name] = totals.get(name, value.new_zeros(())) + value.detach() * share
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        team.add_up([*gradients, *totals.values()])
        norm = nn.utils.clip_grad_norm_(self.trained, self.clip_norm or math.inf)
        values = {name: value.item() for name, value in totals.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(norm.item()):
            raise TrainingError(f"loss {values['loss']:.4g}, gradient norm {norm.item():.4g}")
        group.draw_from(self.seed, group.count)
        for learner in self.learners:
            learner.end_group(lambda rows: torch.cat(group.in_order(team, rows)))
        for each in self.optimizer.param_groups:
            each["lr"] = rate
        self.optimizer.step()
        return Done(values, batches=group.count)
