"""The training steps of GRU4Rec on a CPU: tables and buffers for the compiled function that does the work."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from modalrec.errors import TrainingError
from modalrec.recommenders._gru4rec_memory import Chunk, Dense, Options, Table, scratch
from modalrec.recommenders._gru4rec_run import run_steps
from modalrec.training.steps import Done, Steps

if TYPE_CHECKING:
    from modalrec.recommenders.gru4rec import GRU4Rec


class FusedSteps(Steps):
    """Runs chunks of steps; while it does, the model's parameters are views of its tables."""

    def __init__(self, model: "GRU4Rec", batch_size: int, seed: int) -> None:
        config = model.config
        self.model, self.batch_size, self.seed = model, batch_size, seed
        self.shared = config.embedding == "constrained"
        copies = 3 if config.momentum else 2
        self._rows, self.table = _table(model.item_vectors, model.item_bias, copies)
        self.embed = self.table
        if not self.shared:
            self._embed_rows, self.embed = _table(model.input_vectors, None, copies)
        self.dense = _dense(model, bool(config.momentum))
        self._hidden = np.zeros(batch_size * sum(config.layers), np.float32)
        self.layers = np.array(config.layers, np.int64)
        width, input_width = config.layers[-1], config.input_size
        self._scratch = scratch(batch_size, config.n_sample, width, input_width, config.layers)
        support = np.maximum(model.support, 1).astype(np.float64)
        logq = config.logq if config.loss == "cross-entropy" else 0.0
        self._target_weight = (support**-logq).astype(np.float32)
        self._sample_weight = (support ** (-logq * config.sample_alpha)).astype(np.float32)
        self._threads = ThreadpoolController()

    def step(self, batch: dict[str, Tensor], rate: float) -> Done:
        """Learns from a chunk of steps.

        Raises:
            TrainingError: The loss, a state or a weight of the cells is not finite.
        """
        config = self.model.config
        chunk = Chunk(
            batch["lanes"].numpy(),
            batch["inputs"].numpy(),
            batch["targets"].numpy(),
            batch["origins"].numpy(),
            batch["samples"].numpy(),
            int(batch["epoch"]),
            int(batch["first"]),
        )
        options = Options(
            config.loss == "bpr-max",
            np.float32(config.elu_param),
            np.float32(config.bpreg),
            np.float32(rate),
            np.float32(config.momentum),
            self.batch_size,
            config.dropout_p_embed,
            config.dropout_p_hidden,
            self.seed,
            self._target_weight,
            self._sample_weight,
        )
        with self._threads.limit(limits=1, user_api="blas"):
            total = run_steps(
                self.table,
                self.embed,
                self.shared,
                self.layers,
                self.dense,
                self._hidden,
                chunk,
                options,
                self._scratch,
            )
        # The kernels' exponential hides NaN; a weight that is not finite shows in the states or the dense weights.
        if not (np.isfinite(total) and np.isfinite(self._hidden).all() and np.isfinite(self.dense.weight).all()):
            raise TrainingError(f"loss {total / len(chunk.inputs):.4g}, and a weight or a state is not finite")
        events = len(chunk.inputs)
        return Done({"loss": total / events}, weight=events, batches=len(chunk.lanes), events=events)

    def state_dict(self) -> dict[str, Any]:
        """Accumulators, velocities and the lanes' states; weights are the model's."""
        return self._parts()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        for name, value in self._parts().items():
            value.copy_(state[name])

    def finish(self) -> None:
        """Gives the model parameters of its own again."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)

    def _parts(self) -> dict[str, Tensor]:
        """Views; those of a table share its storage with the model's weights, which is then saved once."""
        parts = {"items": self._rows[:, self.table.width + 1 :], "hidden": torch.from_numpy(self._hidden)}
        parts |= {"square": torch.from_numpy(self.dense.square), "velocity": torch.from_numpy(self.dense.velocity)}
        return parts if self.shared else {**parts, "embed": self._embed_rows[:, self.embed.width :]}


def _table(weight: nn.Parameter, bias: nn.Parameter | None, copies: int) -> tuple[Tensor, Table]:
    """Moves rows, and perhaps a bias of each, into a table with room for the optimizer's state."""
    n_rows, width = weight.shape
    size = width + int(bias is not None)
    flat = np.zeros((n_rows, copies * size), np.float32)
    view = torch.from_numpy(flat)
    view[:, :width] = weight.data
    weight.data = view[:, :width]
    if bias is not None:
        view[:, width] = bias.data
        bias.data = view[:, width]
    return view, Table(flat.reshape(-1), copies * size, width, np.full(n_rows, -1, np.int32))


def _dense(model: "GRU4Rec", velocity: bool) -> Dense:
    """Moves the weights of the cells into one flat array."""
    parameters = [p for cell in model.grus for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)]
    size = sum(parameter.numel() for parameter in parameters)
    flat = np.zeros(size, np.float32)
    begin = 0
    for parameter in parameters:
        part = torch.from_numpy(flat[begin : begin + parameter.numel()]).view_as(parameter)
        part.copy_(parameter.data)
        parameter.data = part
        begin += parameter.numel()
    return Dense(flat, np.zeros(size, np.float32), np.zeros(size * velocity, np.float32), np.zeros(size, np.float32))
