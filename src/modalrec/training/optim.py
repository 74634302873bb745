"""Adagrad with momentum, on whole tensors and on touched rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6

# R rows that were touched, repeats included; N rows of the parameter.


class Adagrad:
    """acc += g^2, step = -rate * g / sqrt(acc + 1e-6), m = momentum * m + step, w += m; without momentum w += step.

    Of a table that is looked up, only touched rows change, in all three: the velocity of other rows is frozen.
    Gradients of a row that repeats are summed first. Shapes do not depend on how many rows repeat, so that a CUDA graph
    can hold the update: rows to spare are sent to one more row at the end of the accumulators.
    """

    def __init__(self, parameters: Sequence[Tensor], momentum: float) -> None:
        self.parameters, self.momentum = parameters, momentum
        self.squares = [_one_more(parameter) for parameter in parameters]
        self.velocities = [_one_more(parameter) for parameter in parameters] if momentum else []

    def dense(self, grads: Sequence[Tensor], rate: float) -> None:
        """Updates the parameters, each by its gradient."""
        for place, (parameter, grad) in enumerate(zip(self.parameters, grads, strict=True)):
            square = self.squares[place][:-1]
            square.addcmul_(grad, grad)
            step = grad * (square + EPSILON).rsqrt() * -rate
            if self.momentum:
                step = self.velocities[place][:-1].mul_(self.momentum).add_(step)
            parameter.add_(step)

    def rows(self, ids: Tensor, grads: Tensor, rate: float) -> None:
        """Updates rows of the one parameter.

        Args:
            ids: [R] rows, in any order, with repeats.
            grads: [R, ...] their gradients.
            rate: The learning rate.
        """
        parameter, square = self.parameters[0], self.squares[0]
        ids, order = torch.sort(ids.long(), stable=True)
        new = torch.cat([ids.new_ones(1, dtype=torch.bool), ids[1:] != ids[:-1]])
        segment = torch.cumsum(new, 0) - 1
        summed = torch.zeros_like(grads).index_add_(0, segment, grads[order])
        spare = len(parameter)
        rows = torch.full_like(ids, spare).index_copy_(0, segment, ids)
        total = square[rows] + summed.square()
        square.index_copy_(0, rows, total)
        step = summed * (total + EPSILON).rsqrt() * -rate
        if self.momentum:
            step = self.velocities[0][rows].mul_(self.momentum).add_(step)
            self.velocities[0].index_copy_(0, rows, step)
        used = (rows < spare).view(-1, *[1] * (grads.dim() - 1))
        parameter.index_add_(0, rows.clamp(max=spare - 1), torch.where(used, step, 0.0))

    def state_dict(self) -> dict[str, Any]:
        """Accumulators and velocities."""
        return {"squares": list(self.squares), "velocities": list(self.velocities)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        for mine, given in zip(
            [*self.squares, *self.velocities], [*state["squares"], *state["velocities"]], strict=True
        ):
            mine.copy_(given)


def _one_more(parameter: Tensor) -> Tensor:
    """Zeros for every row and one to spare."""
    return parameter.new_zeros(len(parameter) + 1, *parameter.shape[1:])
