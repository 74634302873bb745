"""One step of training: a batch goes in, weights move, losses come out.

Most models take `GradientSteps`. A model that knows a faster way, or keeps a state from batch to batch, brings steps of
its own: see `HasSteps`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from modalrec.errors import TrainingError
from modalrec.training.team import Team


@dataclass(frozen=True)
class Done:
    """What a step did.

    Attributes:
        losses: Their means over the step; `loss` is what was minimised.
        weight: What these means count for in the mean over an epoch.
        batches: Mini-batches that were learnt from.
        events: Events that were learnt from; 0 where the model does not count them.
    """

    losses: Mapping[str, float]
    weight: float = 1.0
    batches: int = 1
    events: int = 0


class Steps(ABC):
    """The moving part of a training run."""

    @abstractmethod
    def step(self, batch: Any, rate: float) -> Done:
        """Learns from a batch.

        Raises:
            TrainingError: A loss or a weight is not finite.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs besides the model's weights."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""

    def bring_together(self) -> None:  # noqa: B027  (most hold the same in all processes)
        """Brings what only other processes hold to the leader, before it validates or saves; all processes call it."""

    def finish(self) -> None:  # noqa: B027  (most have nothing to let go of)
        """Is called once, when training has ended."""


@runtime_checkable
class HasSteps(Protocol):
    """A model that brings its own steps; it has moved to its device before it is asked."""

    def steps(self, config: Any, seed: int, team: Team) -> Steps:
        """The steps of a run with these settings (`TrainingConfig`), which take a `Group` where it accumulates."""


class GradientSteps(Steps):
    """AdamW on the gradients of `model.loss`; vectors (biases, norms) are not decayed."""

    def __init__(self, model: nn.Module, weight_decay: float, clip_norm: float) -> None:
        self.model, self.clip_norm = model, clip_norm
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)

    def step(self, batch: Any, rate: float) -> Done:
        """Learns from a batch; nothing of it is kept where its loss or gradient is not finite."""
        losses: dict[str, Tensor] = self.model.loss(batch)  # type: ignore[operator]
        self.optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm or math.inf)
        values = {name: value.item() for name, value in losses.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(norm.item()):
            raise TrainingError(f"loss {values['loss']:.4g}, gradient norm {norm.item():.4g}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return Done(values)

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.optimizer.load_state_dict(dict(state))
