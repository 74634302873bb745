"""GRU4Rec: a recurrent network over sessions (Hidasi et al. 2016; Hidasi and Karatzoglou 2018).

A GRU reads a session item by item; its state times an item's vector is the item's score. It learns from
session-parallel mini-batches, against the other lanes' targets and shared samples, with Adagrad on touched rows.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec import compiled
from modalrec.config import Config
from modalrec.data.sequences import Sequences
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, ScoringRecommender
from modalrec.recommenders._gru4rec_init import compatible_weights, content_directions, uniform_
from modalrec.recommenders._gru4rec_loss import lane_losses
from modalrec.recommenders._gru4rec_states import last_states
from modalrec.recommenders._gru4rec_together import TogetherSteps
from modalrec.recommenders._gru4rec_torch import Lookup, TorchSteps
from modalrec.training.loop import TrainingConfig
from modalrec.training.sampling import SampleStore
from modalrec.training.sessions import SessionParallel
from modalrec.training.steps import Steps
from modalrec.training.team import ALONE, Team

# B histories, M lanes, N items, D width of an item's vector, E of an input row, H of a layer, C columns of the scores,
# V width of a content vector.


class GRU4RecConfig(Config):
    """Names and defaults are the authors'.

    Attributes:
        layers: Units of each GRU layer; the last is the width of an item's vector.
        embedding: Where the first layer's input comes from: `constrained` takes the items' output vectors, `separate`
            a table of its own, `none` feeds it the item's number, and it is then the GRU of Cho et al. (2014).
        embedding_size: Width of the separate table; 0 is that of the first layer.
        loss: `cross-entropy` or `bpr-max`.
        bpreg: Weight of BPR-max's score regularisation.
        elu_param: Scores go through an ELU with this parameter in BPR-max; 0 leaves them as they are.
        logq: Share of cross-entropy's logQ correction, of targets and of samples; 0 is none, 1 all of it.
        n_sample: Sampled negatives of a step, shared by its lanes.
        sample_alpha: Samples are drawn in proportion to support^sample_alpha.
        sample_store_size: Samples that are drawn at a time.
        dropout_p_embed: Dropout of input vectors.
        dropout_p_hidden: Dropout of every layer's output; the dropped state is what is carried to the next step.
        momentum: Of Adagrad's steps: the heavy ball, not Nesterov's.
        bptt: Steps that gradients go back through; more than 1 pays for long histories, not for sessions.
        shuffle_sessions: Deal sessions in a new random order each epoch instead of oldest first.
        initialisation: `compatible` draws the weights that the authors' code draws, whatever the run's seed; `random`
            draws from the run's seed.
        content: What content vectors do: nothing, give the items' first vectors (`initialise`), or be a learnt linear
            part of them for good (`sum`), so that an item without events has a vector too. Needs `embeddings`.
        engine: `fused` runs compiled steps on a CPU, `torch` runs anywhere; `auto` takes the faster one that can.
    """

    name: Literal["gru4rec"] = "gru4rec"
    layers: tuple[PositiveInt, ...] = Field((100,), min_length=1)
    embedding: Literal["constrained", "separate", "none"] = "constrained"
    embedding_size: int = Field(0, ge=0)
    loss: Literal["cross-entropy", "bpr-max"] = "cross-entropy"
    bpreg: float = Field(1.0, ge=0)
    elu_param: float = Field(0.5, ge=0)
    logq: float = Field(0.0, ge=0)
    n_sample: int = Field(2048, ge=0)
    sample_alpha: float = Field(0.5, ge=0)
    sample_store_size: PositiveInt = 10_000_000
    dropout_p_embed: float = Field(0.0, ge=0, lt=1)
    dropout_p_hidden: float = Field(0.0, ge=0, lt=1)
    momentum: float = Field(0.0, ge=0, lt=1)
    bptt: PositiveInt = 1
    shuffle_sessions: bool = False
    initialisation: Literal["compatible", "random"] = "compatible"
    content: Literal["none", "initialise", "sum"] = "none"
    engine: Literal["auto", "fused", "torch"] = "auto"

    @model_validator(mode="after")
    def _possible(self) -> "GRU4RecConfig":
        if self.embedding_size and self.embedding != "separate":
            raise ValueError("embedding_size: only embedding=separate has a table of its own; leave it at 0")
        if self.engine == "fused" and self._torch_only():
            raise ValueError(f"engine=fused cannot do {self._torch_only()}; use engine=auto")
        return self

    @property
    def input_size(self) -> int:
        """Width of what the first layer reads; unused where `embedding` is none."""
        return self.layers[-1] if self.embedding == "constrained" else self.embedding_size or self.layers[0]

    def runs_fused(self, device: str) -> bool:
        """Whether the compiled steps can and should run.

        Raises:
            ConfigError: `engine` is `fused`, and there is no numba or the device is no CPU.
        """
        able = compiled.AVAILABLE and device == "cpu" and not self._torch_only()
        if self.engine == "fused" and not able:
            raise ConfigError(f"engine: fused needs numba and a CPU (the device is {device}); use engine=auto")
        return able and self.engine != "torch"

    def _torch_only(self) -> str:
        wanted = {
            "bptt": self.bptt > 1,
            "embedding=none": self.embedding == "none",
            "content=sum": self.content == "sum",
        }
        return ", ".join(name for name, here in wanted.items() if here)


class FirstLayer(nn.Module):
    """The first GRU layer where inputs are items' numbers: each item's row is its part of the gates (Cho et al. 2014).

    Unlike in the other layers, the reset gate acts on the state before it is multiplied, and there is one bias.
    """

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.empty(n_items, 3 * width))
        self.reset_update = nn.Parameter(torch.empty(width, 2 * width))
        self.candidate = nn.Parameter(torch.empty(width, width))
        self.bias = nn.Parameter(torch.zeros(3 * width))

    def forward(self, rows_M3H: Tensor, state_MH: Tensor) -> Tensor:
        """The next state [M, H]; the gates in a row are candidate, reset, update."""
        x_MH, r_MH, z_MH = (rows_M3H + self.bias).chunk(3, dim=1)
        state_r_MH, state_z_MH = (state_MH @ self.reset_update).chunk(2, dim=1)
        r_MH, z_MH = torch.sigmoid(r_MH + state_r_MH), torch.sigmoid(z_MH + state_z_MH)
        n_MH = torch.tanh((r_MH * state_MH) @ self.candidate + x_MH)
        return (1 - z_MH) * state_MH + z_MH * n_MH


class GRU4Rec(ScoringRecommender):
    """GRU4Rec with all its options; ranks the whole catalogue by exact scores."""

    title = "GRU4Rec"
    Config = GRU4RecConfig
    item_tensors: ClassVar[frozenset[str]] = frozenset({"item_vectors", "item_bias", "input_vectors", "first.rows"})
    training_defaults: ClassVar[dict[str, Any]] = {
        "epochs": 10,
        "batch_size": 64,
        "learning_rate": 0.05,
        "schedule": "constant",
        "weight_decay": 0.0,
        "clip_norm": 0.0,
    }

    config: GRU4RecConfig
    content: Tensor

    def __init__(self, config: GRU4RecConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        if config.content == "sum" and items.content is None:
            raise ConfigError("recommender.content=sum: needs the items' vectors; give --embeddings")
        n_items, width = len(items), config.layers[-1]
        self.item_vectors = nn.Parameter(torch.empty(n_items, width))
        self.item_bias = nn.Parameter(torch.zeros(n_items))
        if config.embedding == "separate":
            self.input_vectors = nn.Parameter(torch.empty(n_items, config.input_size))
        if config.embedding == "none":
            self.first = FirstLayer(n_items, config.layers[0])
        sizes = [config.input_size, *config.layers]
        begin = 1 if config.embedding == "none" else 0
        self.cells = nn.ModuleList(nn.GRUCell(sizes[i], sizes[i + 1]) for i in range(begin, len(config.layers)))
        if config.content == "sum" and items.content is not None:
            self.content_weight = nn.Parameter(torch.zeros(items.content.shape[1], width))
            self.register_buffer("content", torch.from_numpy(items.content), persistent=False)
        self.support = np.zeros(n_items, np.int64)
        self._log_support: Tensor | None = None
        self._served: Tensor | None = None
        self._initialise()

    @classmethod
    def edges(cls, config: GRU4RecConfig) -> frozenset[str]:
        """Content comes from embeddings."""
        return frozenset() if config.content == "none" else frozenset({"embeddings"})

    # Training.

    @classmethod
    def takes_new_items(cls, config: Any) -> bool:
        """Never: `initialise` drops content once it was used, and `sum` serves the items of its own catalogue alone."""
        return False

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> SessionParallel:
        """Session-parallel mini-batches; `augment` changes nothing, the model has no perturbations."""
        config = self.config
        self.support, self._log_support = train.train_counts(), None
        store = SampleStore(self.support, config.n_sample, config.sample_alpha, config.sample_store_size, seed)
        chunk = 64 - 64 % config.bptt if config.bptt <= 64 else config.bptt
        shuffle = seed if config.shuffle_sessions else None
        return SessionParallel(train, batch_size, store, shuffle_seed=shuffle, chunk=chunk)

    @classmethod
    def cannot(cls, config: GRU4RecConfig, training: TrainingConfig) -> str:
        """Weight decay and clipping, and the compiled steps over several streams of sessions."""
        for field in ("weight_decay", "clip_norm"):
            if getattr(training, field):
                return f"training.{field}: gru4rec trains with plain Adagrad; set it to 0"
        if training.accumulate > 1 and config.engine == "fused":
            return "recommender.engine: fused learns from one stream of sessions; use engine=auto to accumulate"
        return ""

    def steps(self, config: TrainingConfig, seed: int, team: Team = ALONE) -> Steps:
        """Adagrad on touched rows, as compiled steps on a CPU or as torch operations anywhere.

        Raises:
            ConfigError: The settings are such that it `cannot`.
        """
        if problem := self.cannot(self.config, config):
            raise ConfigError(problem)
        if self.config.content == "sum":
            # What an item without events has is its content alone.
            self.item_vectors.data[torch.from_numpy(self.support == 0)] = 0
        if config.accumulate > 1:
            return TogetherSteps(self, config.batch_size, config.accumulate, seed, team)
        if self.config.runs_fused(self.item_bias.device.type):
            from modalrec.recommenders._gru4rec_fused import FusedSteps

            return FusedSteps(self, config.batch_size, seed)
        return TorchSteps(self, config.batch_size)

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean loss of a chunk whose first states are zero, recorded for autograd: the yardstick of the steps."""
        hidden = self.fresh(int(batch["lanes"].max()))
        total, begin, n_steps = torch.zeros((), device=self.item_bias.device), 0, len(batch["lanes"])
        for step, lanes in enumerate(batch["lanes"].tolist()):
            end = begin + lanes
            origins = batch["origins"][begin:end] if step else torch.full_like(batch["origins"][:end], -1)
            inputs, targets = batch["inputs"][begin:end], batch["targets"][begin:end]
            lookup = Lookup.of(self, inputs, targets, batch["samples"][step])
            losses_M, hidden = self.forward_lanes(
                lookup, self.carried(hidden, origins), targets, batch["samples"][step]
            )
            total = total + losses_M.sum() / lanes
            begin = end
        return {"loss": total / n_steps}

    def forward_lanes(
        self, lookup: Lookup, hidden: list[Tensor], targets: Tensor, samples: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """One step of all lanes.

        Args:
            lookup: The rows that the step needs.
            hidden: State [M, H] of each layer.
            targets: [M] items.
            samples: [n] items.

        Returns:
            Losses [M], and the new states.
        """
        top_MD, hidden = self.advance(lookup.inputs, hidden)
        scores_MC = top_MD @ lookup.columns.T + lookup.bias
        return lane_losses(scores_MC, self.config, self._correction(targets, samples)), hidden

    def advance(self, inputs: Tensor, hidden: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Feeds input rows to the layers; in training mode with dropout, whose result is carried on.

        Args:
            inputs: [M, E], or [M, 3H] where `embedding` is none.
            hidden: State [M, H] of each layer.

        Returns:
            The last layer's output [M, D] and the new states.
        """
        config, new = self.config, []
        if config.embedding == "none":
            # The authors drop the first layer's result as an input, not as a hidden state.
            x = F.dropout(self.first(inputs, hidden[0]), config.dropout_p_embed, self.training)
            new.append(x)
        else:
            x = F.dropout(inputs, config.dropout_p_embed, self.training)
        for cell in self.grus:
            x = F.dropout(cell(x, hidden[len(new)]), config.dropout_p_hidden, self.training)
            new.append(x)
        return x, new

    @property
    def grus(self) -> list[nn.GRUCell]:
        """The layers that are ordinary GRU cells: all but the first one where `embedding` is none."""
        return [cell for cell in self.cells if isinstance(cell, nn.GRUCell)]

    def fresh(self, lanes: int) -> list[Tensor]:
        """Zero states [M, H] of each layer."""
        return [self.item_bias.new_zeros(lanes, width) for width in self.config.layers]

    @staticmethod
    def carried(hidden: list[Tensor], origins: Tensor) -> list[Tensor]:
        """The states of the lanes that go on, in their new places; zero for fresh lanes."""
        keep, places = (origins >= 0)[:, None], origins.clamp(min=0).long()
        return [torch.where(keep, state[places], 0.0) for state in hidden]

    def rows(self, items: Tensor) -> Tensor:
        """Output vectors [.., D] of items, content included."""
        rows = self.item_vectors[items]
        return rows + self.content[items] @ self.content_weight if self.config.content == "sum" else rows

    def input_rows(self, items: Tensor) -> Tensor:
        """What the first layer reads of items."""
        if self.config.embedding == "constrained":
            return self.rows(items)
        return self.first.rows[items] if self.config.embedding == "none" else self.input_vectors[items]

    # Recommending.

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> tuple[NDArray[np.float32], Any]:
        """The state after each history, [B, D], and the items' vectors and biases."""
        vectors_ND = self._vectors()
        return last_states(self, histories).cpu().numpy(), (vectors_ND, self.item_bias.detach().cpu().numpy())

    def score(self, prepared: tuple[NDArray[np.float32], Any], begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] scores."""
        states_BD, (vectors_ND, bias_N) = prepared
        scores: NDArray[np.float32] = states_BD @ vectors_ND[begin:end].T
        scores += bias_N[begin:end]
        return scores

    def score_into(
        self, prepared: tuple[NDArray[np.float32], Any], begin: int, end: int, out: NDArray[np.float32]
    ) -> None:
        """The same into an array of the caller's."""
        states_BD, (vectors_ND, bias_N) = prepared
        np.matmul(states_BD, vectors_ND[begin:end].T, out=out)
        out += bias_N[begin:end]

    def score_of(
        self, prepared: tuple[NDArray[np.float32], Any], items: NDArray[np.int32]
    ) -> NDArray[np.float32] | None:
        """[B] scores of one item each."""
        states_BD, (vectors_ND, bias_N) = prepared
        scores: NDArray[np.float32] = np.einsum("bd,bd->b", states_BD, vectors_ND[items]) + bias_N[items]
        return scores

    def train(self, mode: bool = True) -> "GRU4Rec":
        """Forgets the vectors that were kept for serving."""
        self._served = None
        return super().train(mode)

    @torch.no_grad()
    def _vectors(self) -> NDArray[np.float32]:
        """All items' vectors [N, D], computed once."""
        if self._served is None:
            everything = torch.arange(len(self.items), device=self.item_bias.device)
            vectors = self.rows(everything) if self.config.content == "sum" else self.item_vectors.detach()
            self._served = vectors.cpu()
        return self._served.numpy()

    # Starting.

    def _correction(self, targets: Tensor, samples: Tensor) -> Tensor | None:
        """What cross-entropy takes from each column: logq * ln(support), of samples sample_alpha times that."""
        config = self.config
        if config.loss == "bpr-max" or not config.logq:
            return None
        if self._log_support is None:
            # Once: a CUDA graph cannot record a copy from the host.
            self._log_support = torch.from_numpy(np.log(np.maximum(self.support, 1))).to(self.item_bias)
        log_N = self._log_support
        return config.logq * torch.cat([log_N[targets], config.sample_alpha * log_N[samples]])

    @torch.no_grad()
    def _initialise(self) -> None:
        config = self.config
        if config.initialisation == "compatible":
            compatible_weights(self)
        else:
            uniform_(self)
        if config.content == "initialise" and self.items.content is not None:
            directions_ND = content_directions(self.items.content, config.layers[-1])
            given_N = torch.from_numpy(np.abs(self.items.content).sum(1) > 0)
            spread = self.item_vectors.std()
            self.item_vectors[given_N] = torch.from_numpy(directions_ND)[given_N] * spread
            # Its work is done; the vectors need not be saved.
            self.items = replace(self.items, content=None)
        if config.content == "sum" and self.items.content is not None:
            bound = math.sqrt(6 / sum(self.content_weight.shape))
            self.content_weight.uniform_(-bound, bound)
