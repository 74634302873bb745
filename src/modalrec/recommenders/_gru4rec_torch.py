"""The training steps of GRU4Rec in torch: right on every device, of a fixed shape, so that a GPU can replay them.

A step looks up its rows, lets autograd differentiate the loss with respect to the rows themselves, sums the gradients
of rows that repeat, and updates each touched row once. Nothing depends on how many rows repeat, so full steps are
recorded once as a CUDA graph and replayed; losses are read back once per chunk. The CUDA part has not been run so far.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from modalrec.errors import TrainingError
from modalrec.training.optim import Adagrad
from modalrec.training.steps import Done, Steps

if TYPE_CHECKING:
    from modalrec.recommenders.gru4rec import GRU4Rec

# M lanes, C columns of the scores (targets, then samples), R rows, D width of an item's vector, E of an input row.

Part = tuple[Tensor, ...]
"""The inputs, targets, origins and samples of a step."""
WARM_UP = 3
"""Steps before a CUDA graph is recorded, as CUDA's libraries set themselves up on first use."""


@dataclass(frozen=True)
class Lookup:
    """The rows of one step.

    Attributes:
        inputs: [M, E] what the first layer reads.
        columns: [C, D] vectors of the targets and samples.
        bias: [C] their biases.
    """

    inputs: Tensor
    columns: Tensor
    bias: Tensor

    @classmethod
    def of(cls, model: "GRU4Rec", inputs: Tensor, targets: Tensor, samples: Tensor) -> "Lookup":
        """Looks rows up in the model's parameters."""
        columns = torch.cat([targets, samples])
        return cls(model.input_rows(inputs), model.rows(columns), model.item_bias[columns])


class Gradients(NamedTuple):
    """What an update is made of.

    Attributes:
        rows: By table, the rows that were looked up, [R], and their gradients [R, ...]; a row may repeat.
        dense: Of everything else.
        total: Sum over the steps of loss * lanes.
        hidden: The lanes' states after the steps.
    """

    rows: dict[str, tuple[Tensor, Tensor]]
    dense: list[Tensor]
    total: Tensor
    hidden: list[Tensor]


class TorchSteps(Steps):
    """Steps by autograd, with Adagrad on touched rows.

    With `bptt` above 1 the gradient goes back through so many steps, which are then one update.
    """

    def __init__(self, model: "GRU4Rec", batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size
        config = model.config
        self._shared = config.embedding == "constrained"
        rows = {"item_vectors": model.item_vectors, "item_bias": model.item_bias}
        if not self._shared:
            rows["inputs"] = model.first.rows if config.embedding == "none" else model.input_vectors
        row_ids = {id(parameter) for parameter in rows.values()}
        self._dense = [parameter for parameter in model.parameters() if id(parameter) not in row_ids]
        self.optimizers = {name: Adagrad([parameter.data], config.momentum) for name, parameter in rows.items()}
        self.optimizers["dense"] = Adagrad([parameter.data for parameter in self._dense], config.momentum)
        self._hidden = model.fresh(batch_size)
        self._graph: _Graph | None = None
        self._warm = 0

    def step(self, batch: dict[str, Tensor], rate: float) -> Done:
        """Learns from a chunk of steps."""
        total = self.model.item_bias.new_zeros(())
        for parts in cut(batch, self.model.config.bptt):
            total += self._learn(parts, rate)
        return done(total.item(), len(batch["inputs"]), len(batch["lanes"]))

    def state_dict(self) -> dict[str, Any]:
        """Accumulators, velocities and the lanes' states."""
        states = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {"optimizers": states, "hidden": list(self._hidden)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        self._hidden = [part.to(self.model.item_bias.device) for part in state["hidden"]]

    def _learn(self, parts: Sequence[Part], rate: float) -> Tensor:
        """One update; returns the sum over its steps of loss * lanes."""
        inputs = parts[0][0]
        full = len(parts) == 1 and len(inputs) == self.batch_size
        if not (full and inputs.is_cuda):
            total, self._hidden = self._update(parts, self._hidden, rate)
            return total
        if self._graph is None and self._warm < WARM_UP:
            self._warm += 1
            total, self._hidden = self._update(parts, self._hidden, rate)
            return total
        if self._graph is None or self._graph.rate != rate:
            self._graph = _Graph(self, parts[0], rate)
        return self._graph.replay(self, parts[0])

    def _update(self, parts: Sequence[Part], hidden: list[Tensor], rate: float) -> tuple[Tensor, list[Tensor]]:
        found = self._gradients(parts, hidden)
        self._apply(found.rows, found.dense, rate)
        return found.total, found.hidden

    def _gradients(self, parts: Sequence[Part], hidden: list[Tensor], share: float = 1.0) -> Gradients:
        """The gradients of a sum of losses, which counts for a share of the objective."""
        model = self.model
        leaves: list[Tensor] = []
        total = model.item_bias.new_zeros(())
        objective = total
        for inputs, targets, origins, samples in parts:
            lookup, leaf = self._lookup(inputs, targets, samples)
            leaves += leaf
            losses_M, hidden = model.forward_lanes(lookup, model.carried(hidden, origins), targets, samples)
            loss = losses_M.sum() / self.batch_size
            objective = objective + loss
            total = total + loss.detach() * len(inputs)
        grads = torch.autograd.grad(objective * share, [*leaves, *self._dense], allow_unused=True)
        ids = [torch.cat([inputs, targets, samples]) for inputs, targets, _, samples in parts]
        columns = [torch.cat([targets, samples]) for _, targets, _, samples in parts]
        per_part = [grads[at : at + 3] for at in range(0, len(leaves), 3)]
        if self._shared:
            rows = {"item_vectors": (torch.cat(ids), torch.cat([torch.cat([grad[0], grad[1]]) for grad in per_part]))}
        else:
            every = torch.cat([part[0] for part in parts])
            rows = {
                "inputs": (every, torch.cat([grad[0] for grad in per_part])),
                "item_vectors": (torch.cat(columns), torch.cat([grad[1] for grad in per_part])),
            }
        rows["item_bias"] = (torch.cat(columns), torch.cat([grad[2] for grad in per_part]))
        dense = [
            torch.zeros_like(p) if g is None else g for p, g in zip(self._dense, grads[len(leaves) :], strict=True)
        ]
        return Gradients(rows, dense, total, [state.detach() for state in hidden])

    def _apply(self, rows: Mapping[str, tuple[Tensor, Tensor]], dense: Sequence[Tensor], rate: float) -> None:
        for name, (ids, grads) in rows.items():
            self.optimizers[name].rows(ids, grads, rate)
        self.optimizers["dense"].dense(dense, rate)

    def _lookup(self, inputs: Tensor, targets: Tensor, samples: Tensor) -> tuple[Lookup, list[Tensor]]:
        """The rows as leaves of the graph, with content added on top of them."""
        model, columns = self.model, torch.cat([targets, samples])
        table = model.item_vectors if self._shared else self._inputs()
        leaves = [table.data[inputs], model.item_vectors.data[columns], model.item_bias.data[columns]]
        for leaf in leaves:
            leaf.requires_grad_()
        read, scored = leaves[0], leaves[1]
        if model.config.content == "sum":
            scored = scored + model.content[columns] @ model.content_weight
            read = read + model.content[inputs] @ model.content_weight if self._shared else read
        return Lookup(read, scored, leaves[2]), leaves

    def _inputs(self) -> Tensor:
        return self.model.first.rows if self.model.config.embedding == "none" else self.model.input_vectors


def cut(chunk: Mapping[str, Tensor], bptt: int) -> list[list[Part]]:
    """The updates of a chunk: inputs, targets, origins and samples of so many steps each."""
    bounds = [0, *chunk["lanes"].cumsum(0).tolist()]
    steps: list[Part] = [
        (chunk["inputs"][a:b], chunk["targets"][a:b], chunk["origins"][a:b], chunk["samples"][step])
        for step, (a, b) in enumerate(pairwise(bounds))
    ]
    return [steps[first : first + bptt] for first in range(0, len(steps), bptt)]


def done(total: float, events: int, batches: int) -> Done:
    """What became of a chunk whose steps' losses * lanes sum up to `total`.

    Raises:
        TrainingError: The sum is not finite.
    """
    if not math.isfinite(total):
        raise TrainingError(f"loss {total:.4g}")
    return Done({"loss": total / events}, weight=events, batches=batches, events=events)


class _Graph:
    """A full step recorded as a CUDA graph: one launch instead of some two hundred."""

    def __init__(self, steps: TorchSteps, part: Part, rate: float) -> None:
        self.rate = rate
        self.part = tuple(value.clone() for value in part)
        self.hidden = [state.clone() for state in steps._hidden]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.total, new = steps._update([self.part], self.hidden, rate)
            for state, value in zip(self.hidden, new, strict=True):
                state.copy_(value)

    def replay(self, steps: TorchSteps, part: Part) -> Tensor:
        for state, value in zip(self.hidden, steps._hidden, strict=True):
            if state is not value:
                state.copy_(value)
        for mine, given in zip(self.part, part, strict=True):
            mine.copy_(given)
        self.graph.replay()
        steps._hidden = self.hidden
        return self.total.clone()
