"""Steps for models with large embedding tables: rows that a batch did not look up cost nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from modalrec.errors import TrainingError
from modalrec.training.groups import Group
from modalrec.training.loop import TrainingConfig
from modalrec.training.spread import SpreadTable
from modalrec.training.steps import Done, Steps
from modalrec.training.team import ALONE, Team

# R rows of a table that a batch looked up, N rows in all, D width.

TableOptimizer = Literal["adam", "lazy_adam", "row_adagrad"]
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class TableSteps(Steps):
    """AdamW for what has a gradient everywhere, and an update of the touched rows for tables with sparse gradients.

    Tables of the model that are spread over processes update themselves, and gradients of theirs are not scaled down.

    Args:
        model: What is trained, with a `loss`.
        tables: Its embedding tables, whatever their gradients; `config.weight_decay` leaves them alone.
        config: Weight decay of the other matrices, and the norm that gradients are scaled down to.
        optimizer: How rows of tables with sparse gradients are updated.
        decay: Weight of half the squared entries of the tables in the loss; of the rows that a step updates.
        seed: Of what a group of batches draws.
        team: The processes that share the batches of a group.
        scale: Learning rate of rows of tables, over that of all else.
        rates: Learning rates over that of all else, by the id of a parameter that is of no table.
        whole: Tables with dense gradients are updated row by row too, which is quicker for small ones; of `row_adagrad`
            alone, which leaves rows without a gradient as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        tables: Sequence[nn.Embedding],
        config: TrainingConfig,
        optimizer: TableOptimizer,
        decay: float,
        seed: int = 0,
        team: Team = ALONE,
        scale: float = 1.0,
        whole: bool = False,
        rates: Mapping[int, float] = {},
    ) -> None:
        whole &= optimizer == "row_adagrad"
        self.scale = scale
        self.model, self.decay, self.clip_norm = model, decay, config.clip_norm or math.inf
        self.seed, self.team = seed, team
        self.spread = [part for part in model.modules() if isinstance(part, SpreadTable)]
        self.sparse = [_Rows(table.weight, optimizer) for table in tables if table.sparse]
        self.whole = [_Rows(table.weight, optimizer) for table in tables if whole and not table.sparse]
        self.dense = [table.weight for table in tables if not (table.sparse or whole)]
        known = {id(table.weight) for table in tables}
        self.others = [one for one in model.parameters() if one.requires_grad and id(one) not in known]
        groups = []
        for rate in sorted({rates.get(id(one), 1.0) for one in self.others} | {1.0}):
            mine = [one for one in self.others if rates.get(id(one), 1.0) == rate]
            rest = [*(one for one in mine if one.dim() < 2), *(self.dense if rate == 1 else [])]
            matrices = [one for one in mine if one.dim() >= 2]
            groups.append({"params": matrices, "weight_decay": config.weight_decay, "scale": rate})
            groups.append({"params": rest, "weight_decay": 0.0, "scale": rate})
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], betas=BETAS, eps=EPSILON, fused=True
        )

    def step(self, batch: Mapping[str, Tensor] | Group, rate: float) -> Done:
        """Learns from a batch or a group; nothing of it is kept where its loss or gradient is not finite."""
        for parameter in self.model.parameters():
            parameter.grad = None
        for spread in self.spread:
            spread.set_rate(rate * self.scale)
        if isinstance(batch, Group):
            losses, count = self._together(batch)
        else:
            losses, count = self.model.loss(batch), len(batch["label"])  # type: ignore[operator]
            losses["loss"].backward()
        by_row = [*self.sparse, *self.whole]
        touched = [rows.touched(self.decay) for rows in by_row]
        if self.decay:
            for table in self.dense:
                if table.grad is not None:
                    table.grad.add_(table.detach(), alpha=self.decay)
        grads = [one.grad for one in (*self.others, *self.dense) if one.grad is not None]
        norms = torch._foreach_norm([*grads, *(one[1] for one in touched)])
        norm = torch.linalg.vector_norm(torch.stack(norms))
        values = {name: value.item() for name, value in losses.items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(norm.item()):
            raise TrainingError(f"loss {values['loss']:.4g}, gradient norm {norm.item():.4g}")
        factor = min(1.0, self.clip_norm / (norm.item() + 1e-6))
        if factor < 1:
            for grad in grads:
                grad.mul_(factor)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.optimizer.step()
        for rows, (ids_R, grads_RD) in zip(by_row, touched, strict=True):
            rows.update(ids_R, grads_RD * factor, rate * self.scale)
        return Done(values, weight=count, batches=batch.count if isinstance(batch, Group) else 1, events=count)

    def _together(self, group: Group) -> tuple[dict[str, Tensor], int]:
        """Leaves the mean of the group's gradients in all processes; returns the mean losses and the number of rows."""
        dense = [*self.others, *self.dense, *(rows.table for rows in self.whole)]
        for parameter in dense:
            parameter.grad = torch.zeros_like(parameter)
        found: list[list[Tensor]] = [[] for _ in self.sparse]
        totals: dict[str, Tensor] = {}
        count = torch.zeros((), device=dense[0].device)
        for batch, share in group.shares(self.team, self.seed):
            losses: dict[str, Tensor] = self.model.loss(batch)  # type: ignore[operator]
            (losses["loss"] * share).backward()
            count += len(batch["label"]) if share else 0
            for name, value in losses.items():
                totals[name] = totals.get(name, value.new_zeros(())) + value.detach() * share
            for rows, mine in zip(self.sparse, found, strict=True):
                mine.append(rows.table.grad if rows.table.grad is not None else _no_rows(rows.table))
                rows.table.grad = None
        self.team.add_up([*(one.grad for one in dense if one.grad is not None), *totals.values(), count])
        for rows, mine in zip(self.sparse, found, strict=True):
            each = [grad.coalesce() for grad in mine]
            ids_R = torch.cat(group.in_order(self.team, [grad.indices()[0] for grad in each]))
            grads_RD = torch.cat(group.in_order(self.team, [grad.values() for grad in each]))
            rows.table.grad = _of_rows(ids_R, grads_RD, rows.table)
        return totals, int(count)

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts."""
        by_row = [rows.state for rows in (*self.sparse, *self.whole)]
        spread = [table.state() for table in self.spread]
        return {"dense": self.optimizer.state_dict(), "sparse": by_row, "spread": spread}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.optimizer.load_state_dict(state["dense"])
        for rows, given in zip((*self.sparse, *self.whole), state["sparse"], strict=True):
            for name, value in given.items():
                rows.state[name].copy_(value)
        for table, given in zip(self.spread, state["spread"], strict=True):
            table.load_state(given)

    def bring_together(self) -> None:
        """See `Steps.bring_together`: tables that are spread."""
        for table in self.spread:
            table.bring_together()


def _no_rows(table: Tensor) -> Tensor:
    nothing = torch.zeros(0, dtype=torch.int64, device=table.device)
    return _of_rows(nothing, table.new_zeros(0, table.shape[1]), table)


def _of_rows(ids_R: Tensor, grads_RD: Tensor, table: Tensor) -> Tensor:
    return torch.sparse_coo_tensor(ids_R[None], grads_RD, table.shape, check_invariants=False)


class _Rows:
    """A table with sparse gradients and what its optimizer remembers of each row."""

    def __init__(self, table: Tensor, optimizer: TableOptimizer) -> None:
        self.table, self.optimizer = table, optimizer
        self.state = {"steps": torch.zeros((), dtype=torch.int64)}
        if optimizer == "row_adagrad":
            self.state["squares"] = table.new_zeros(len(table))
        else:
            self.state |= {"first": torch.zeros_like(table), "second": torch.zeros_like(table)}

    def touched(self, decay: float) -> tuple[Tensor, Tensor]:
        """The rows that the batch looked up, [R], and their gradients [R, D], those of one row summed."""
        if self.table.grad is None:
            return torch.zeros(0, dtype=torch.int64, device=self.table.device), self.table.new_zeros(0, 1)
        if self.table.grad.is_sparse:
            grad = self.table.grad.coalesce()
            ids_R, grads_RD = grad.indices()[0], grad.values()
        else:
            ids_R, grads_RD = torch.arange(len(self.table), device=self.table.device), self.table.grad
        return ids_R, grads_RD.add(self.table.detach()[ids_R], alpha=decay) if decay else grads_RD

    @torch.no_grad()
    def update(self, ids_R: Tensor, grads_RD: Tensor, rate: float) -> None:
        """Adam as SparseAdam has it, one count of steps for all rows; or Adagrad with a mean square a row."""
        self.state["steps"] += 1
        if not len(ids_R):
            return
        if self.optimizer == "row_adagrad" and len(ids_R) == len(self.table):
            squares_N = self.state["squares"].add_(grads_RD.square().mean(1))
            self.table.addcdiv_(grads_RD, squares_N.sqrt().add_(EPSILON)[:, None], value=-rate)
            return
        if self.optimizer == "row_adagrad":
            squares_R = self.state["squares"][ids_R] + grads_RD.square().mean(1)
            self.state["squares"][ids_R] = squares_R
            self.table.index_add_(0, ids_R, grads_RD / (squares_R.sqrt() + EPSILON)[:, None], alpha=-rate)
            return
        steps = self.state["steps"].item()
        first_RD = torch.lerp(self.state["first"][ids_R], grads_RD, 1 - BETAS[0])
        second_RD = torch.lerp(self.state["second"][ids_R], grads_RD.square(), 1 - BETAS[1])
        self.state["first"][ids_R], self.state["second"][ids_R] = first_RD, second_RD
        factor = rate * math.sqrt(1 - BETAS[1] ** steps) / (1 - BETAS[0] ** steps)
        self.table.index_add_(0, ids_R, first_RD / second_RD.sqrt_().add_(EPSILON), alpha=-factor)
