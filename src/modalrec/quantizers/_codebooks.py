"""Codebooks that learn by gradient or as moving averages, with k-means start, revival of dead codes and diversity.

By gradient (van den Oord et al., "Neural Discrete Representation Learning", 2017, arXiv 1711.00937, equation 3), an
input r pulls its code e with |sg[r] - e|^2. As moving averages (its appendix A.1), code k is m_k / n_k with

    n_k <- decay n_k + (1 - decay) |{i: c_i = k}|,    m_k <- decay m_k + (1 - decay) sum_{i: c_i = k} r_i

and n smoothed by (n_k + eps) / (sum n + V eps) sum n. The diversity of LETTER (2024, arXiv 2405.07314, equation 5)
keeps codes of one of `GROUPS` equally large groups together and all others apart, where e_+ is another code of the
group of e_c:

    L_div = -1/B sum_i log (exp <e_c, e_+> / sum_{j != c} exp <e_c, e_j>)
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec import compiled
from modalrec.quantizers._autoencoder import AutoencoderConfig
from modalrec.quantizers._averages import averaged, averaged_on_cpu
from modalrec.training.kmeans import kmeans, nearest

# N items of a batch, W width of a code, L codebooks, V codes of each.

Chosen = tuple[Tensor, Tensor]
GROUPS = 10
REGROUP_AFTER = 50


class CodebookConfig(AutoencoderConfig):
    """Networks, alignment and codebooks.

    Attributes:
        codebook_size: Codes to choose from, V (TIGER's, LC-Rec's and LETTER's 256; UniGenRec's 2048).
        learning: `gradient` moves codes with the loss (TIGER, LC-Rec, LETTER), `ema` as moving averages (UniGenRec).
        decay: Of the moving averages (UniGenRec .99).
        commitment: Weight beta of the encoder's pull towards its codes (.25 in all of them).
        distance: What the nearest code is: euclidean (all of them), or the largest cosine.
        initialisation: Codes begin at the centres of k-means (TIGER, LC-Rec), at random with unit variance (UniGenRec),
            or at random between -1/V and 1/V (MMCTR).
        revive_after: A code that learns by gradient and that so many batches in a row did not use moves to a random
            input of the current batch (50 is more than an epoch of a small catalogue, where a code of a single item
            comes up once an epoch).
        restart_below: A moving average of fewer inputs a batch restarts at a random one of them (UniGenRec 1, which
            with as many codes as rows of a batch restarts half of the codes with every batch).
        diversity: Weight of the diversity loss (LETTER 1e-4); needs learning=gradient.
    """

    codebook_size: PositiveInt = 256
    learning: Literal["gradient", "ema"] = "gradient"
    decay: float = Field(0.99, gt=0, lt=1)
    commitment: float = Field(0.25, ge=0)
    distance: Literal["euclidean", "cosine"] = "euclidean"
    initialisation: Literal["kmeans", "random", "uniform"] = "kmeans"
    revive_after: PositiveInt = 50
    restart_below: float = Field(0.1, ge=0)
    diversity: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _diversity_needs_gradients(self) -> "CodebookConfig":
        if self.diversity and self.learning != "gradient":
            raise ValueError(f"diversity={self.diversity:g} moves codes by gradient; set learning=gradient or it to 0")
        return self


class Codebooks(nn.Module):
    """L codebooks of V codes each.

    Args:
        config: Size and learning.
        count: L.
        width: W.
    """

    codes_LVW: Tensor
    unused_LV: Tensor
    sums_LVW: Tensor
    counts_LV: Tensor
    groups_LV: Tensor
    age: Tensor

    def __init__(self, config: CodebookConfig, count: int, width: int) -> None:
        super().__init__()
        self.config = config
        self._waiting: list[Sequence[Chosen]] | None = None  # of a group of batches, until its end
        codes_LVW = torch.randn(count, config.codebook_size, width)
        if config.initialisation == "uniform":
            codes_LVW.uniform_(-1 / config.codebook_size, 1 / config.codebook_size)
        if config.learning == "gradient":
            self.codes_LVW = nn.Parameter(codes_LVW)
            self.register_buffer("unused_LV", torch.zeros(count, config.codebook_size, dtype=torch.int64))
        else:
            self.register_buffer("codes_LVW", codes_LVW)
            self.register_buffer("sums_LVW", codes_LVW.clone())
            self.register_buffer("counts_LV", torch.ones(count, config.codebook_size))
        if config.diversity:
            self.register_buffer("groups_LV", torch.zeros(count, config.codebook_size, dtype=torch.int64))
            self.register_buffer("age", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, level: int, inputs_NW: Tensor) -> Tensor:
        """Starts a codebook from a sample and returns the code of each input [N, W]."""
        if self.config.initialisation == "kmeans":
            self.codes_LVW[level] = kmeans(inputs_NW, self.config.codebook_size).centres_VD
        if self.config.learning == "ema":
            self.sums_LVW[level] = self.codes_LVW[level]
            self.counts_LV[level] = 1
        return self.codes_LVW[level][self.nearest(level, inputs_NW)]

    @torch.no_grad()
    def nearest(self, level: int, inputs_NW: Tensor) -> Tensor:
        """The nearest code of each input [N]."""
        codes_VW = self.codes_LVW[level]
        if self.config.distance == "cosine":
            return (inputs_NW @ F.normalize(codes_VW, dim=1).T).argmax(1)
        if self.training and self.config.precision == "bfloat16":
            return _roughly_nearest(inputs_NW, codes_VW)
        return nearest(inputs_NW, codes_VW)[0]

    @torch.no_grad()
    def learn(self, chosen: Sequence[Chosen]) -> None:
        """Moves averages and dead codes, in training; they serve from the next batch on.

        Args:
            chosen: Of each codebook, the inputs [N, W] and the codes they took [N].
        """
        if not self.training:
            return
        if self._waiting is not None:
            self._waiting.append([(inputs_NW.detach(), labels_N) for inputs_NW, labels_N in chosen])
            return
        for level, (inputs_NW, labels_N) in enumerate(chosen):
            if self.config.learning == "ema":
                self._average(level, inputs_NW, labels_N)
            else:
                self._revive(level, inputs_NW, labels_N)

    def begin_group(self) -> None:
        """See `training.groups.LearnsByItself`: what the batches of a group choose is kept until its end."""
        self._waiting = []
        if self.config.diversity:
            self._grow_older()

    def end_group(self, gather: Callable[[list[Tensor]], Tensor]) -> None:
        """Learns from what all batches of the group chose, as if they were one batch."""
        kept, self._waiting = self._waiting or [], None
        books = range(len(self.codes_LVW))
        self.learn([tuple(gather([chosen[book][n] for chosen in kept]) for n in (0, 1)) for book in books])  # type: ignore[misc]

    def _revive(self, level: int, inputs_NW: Tensor, labels_N: Tensor) -> None:
        unused_V = self.unused_LV[level]
        unused_V += 1
        unused_V[labels_N] = 0
        dead = (unused_V >= self.config.revive_after).nonzero()[:, 0]
        if len(dead):
            self.codes_LVW[level, dead] = _some(inputs_NW, len(dead))
            unused_V[dead] = 0

    def _average(self, level: int, inputs_NW: Tensor, labels_N: Tensor) -> None:
        state = self.codes_LVW[level], self.sums_LVW[level], self.counts_LV[level]
        rows_V = torch.randint(len(inputs_NW), (self.config.codebook_size,), device=inputs_NW.device)
        on_cpu = inputs_NW.device.type == "cpu" and inputs_NW.dtype == torch.float32
        average = averaged_on_cpu if compiled.AVAILABLE and on_cpu else averaged
        average(*state, inputs_NW, labels_N, rows_V, self.config.decay, self.config.restart_below)

    def diversity(self, chosen: Sequence[Chosen]) -> Tensor | None:
        """The weighted diversity loss, summed over the codebooks; None where it has no weight."""
        if not self.config.diversity or not self._n_groups:
            return None
        if self.training and self._waiting is None:
            self._grow_older()
        total = self.codes_LVW.new_zeros(())
        for codes_VW, groups_V, (_, labels_N) in zip(self.codes_LVW, self.groups_LV, chosen, strict=True):
            scores_NV = codes_VW[labels_N] @ codes_VW.T
            scores_NV = scores_NV.scatter(1, labels_N[:, None], -torch.inf)
            same_NV = (groups_V[labels_N][:, None] == groups_V).scatter(1, labels_N[:, None], False)
            mates_N = torch.multinomial(same_NV.float() + 1e-12 * (scores_NV > -torch.inf), 1)[:, 0]
            total = total + F.cross_entropy(scores_NV, mates_N)
        return self.config.diversity * total

    @property
    def _n_groups(self) -> int:
        return min(GROUPS, self.config.codebook_size // 2)

    @torch.no_grad()
    def _grow_older(self) -> None:
        """Counts a step, and groups the codes again after some; nothing where there are too few codes to group."""
        if self._n_groups and self.age % REGROUP_AFTER == 0:
            self._regroup(self._n_groups)
        self.age += 1

    def _regroup(self, n_groups: int) -> None:
        for groups_V, codes_VW in zip(self.groups_LV, self.codes_LVW, strict=True):
            groups_V.copy_(kmeans(codes_VW, n_groups, iterations=10, balanced=True).labels_N)


def _some(inputs_NW: Tensor, count: int) -> Tensor:
    """Random inputs, with repeats."""
    return inputs_NW.index_select(0, torch.randint(len(inputs_NW), (count,), device=inputs_NW.device))


def _roughly_nearest(inputs_NW: Tensor, codes_VW: Tensor) -> Tensor:
    """The nearest code as bfloat16 products rank them: of two about as near, either."""
    products_NV = (-2 * inputs_NW).bfloat16() @ codes_VW.bfloat16().T
    scores_NV = products_NV.float().add_(torch.linalg.vector_norm(codes_VW, dim=1).square_())
    # numpy finds the least of a row five times as fast as torch does on a CPU
    return torch.from_numpy(scores_NV.numpy().argmin(1)) if scores_NV.device.type == "cpu" else scores_NV.argmin(1)
