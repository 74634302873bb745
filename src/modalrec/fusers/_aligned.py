"""What trained fusers share: inputs on one scale, projections into a common space, and InfoNCE between them."""

import itertools
import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from modalrec.config import Config
from modalrec.fusers import ModalityBatch, TrainedFuser

# B items of a batch, M modalities, D length of a modality's vectors, P length of the common space, F of fused vectors.

TEMPERATURE, HOTTEST = 0.07, 100.0
"""CLIP's: where the temperature starts, and the largest inverse it may learn."""
SHARED_SPACE = 0.1
"""Mean cosine of centred pairs from which encoders count as trained into one space; .3 for CLIP, 0 for strangers."""
BLOCK_ROWS = 8192
PADDING = 0.01


class AlignedConfig(Config):
    """Settings that trained fusers share.

    Attributes:
        dimension: Length of the fused vectors.
        dropout: Share of the inputs' numbers that training leaves out: catalogues are small.
    """

    dimension: int = Field(default=256, ge=2, le=65536)
    dropout: float = Field(default=0.3, ge=0, lt=1)


class Aligned(TrainedFuser):
    """Projects every modality linearly into a common space and pulls the two vectors of an item together there.

    The input of modality m is x = (v / |v| - mean) / spread over train items, where a missing one is zero, its
    projection h = W_m x [B, P], u = h / |h|. The contrast of two modalities is symmetric InfoNCE over the items of a
    batch that have both, with a temperature t learnt from .07:

        s_ij = u_i . w_j / t;  contrast = 1/2 [CE(s, diagonal) + CE(s^T, diagonal)]

    The two sides are different data, so no weights satisfy it without a text telling its own picture from others.

    `initialise` sets W from train items that have both. Encoders with a common space, such as CLIP's, keep it: both get
    the principal axes of all vectors together. For others it is orthogonal Procrustes: the singular vectors of the
    cross-covariance.
    """

    def __init__(self, config: AlignedConfig, dimensions: Mapping[str, int], seed: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.names = list(dimensions)
        self.dimension, self.width = self.lengths(config.dimension, len(dimensions))
        with torch.random.fork_rng(devices=[]):  # the same weights wherever it is built
            torch.manual_seed(seed)
            self.projections = nn.ParameterDict(
                {name: nn.init.orthogonal_(torch.empty(self.width, length)) for name, length in dimensions.items()}
            )
            self.log_inverse_temperature = nn.Parameter(torch.tensor(math.log(1 / TEMPERATURE)))
            self.build_layers(config, dimensions)
        for name, length in dimensions.items():
            self.register_buffer(f"{name}_mean", torch.zeros(length))
            self.register_buffer(f"{name}_spread", torch.ones(()))

    @staticmethod
    def lengths(dimension: int, modalities: int) -> tuple[int, int]:
        """Length of the fused vectors and of the common space."""
        return dimension, dimension

    @abstractmethod
    def build_layers(self, config: Any, dimensions: Mapping[str, int]) -> None:
        """Builds the fuser's own modules, from the global torch generator."""

    @abstractmethod
    def join(self, projected_BMP: Tensor, kept_BM: Tensor) -> Tensor:
        """Fused unit vectors [B, F] from the projections of the modalities that are kept."""

    def fuse(
        self, vectors: Mapping[str, NDArray[np.float32]], present: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """L2-normalised vectors [B, F]; see the class for missing modalities."""
        n = len(next(iter(present.values())))
        fused_BF = np.zeros((n, self.dimension), np.float32)
        training = self.training
        self.eval()
        for begin in range(0, n, BLOCK_ROWS):
            rows = slice(begin, begin + BLOCK_ROWS)
            batch = as_batch({m: vectors[m][rows] for m in self.names}, {m: present[m][rows] for m in self.names})
            batch = {name: value.to(self.log_inverse_temperature.device) for name, value in batch.items()}
            with torch.no_grad():
                present_BM = self.present(batch)
                joined_BF = self.join(self.projected(self.inputs(batch)), present_BM)
                fused_BF[rows] = (joined_BF * present_BM.any(1, keepdim=True)).cpu().numpy()
        self.train(training)
        return fused_BF

    @torch.no_grad()
    def initialise(self, batch: ModalityBatch) -> None:
        """Sets means, spreads and projections; see the class."""
        for name in self.names:
            unit_BD = _unit_inputs(batch[name])[batch[f"{name}_present"]].double()
            if not len(unit_BD):
                continue
            mean_D = unit_BD.mean(0)
            spread = (unit_BD - mean_D).pow(2).sum(1).mean().sqrt().item()
            self.get_buffer(f"{name}_mean").copy_(mean_D)
            self.get_buffer(f"{name}_spread").fill_(spread if spread > 1e-4 else 1.0)  # equal vectors have none
        inputs, present_BM = self.inputs(batch), self.present(batch)
        both = present_BM.all(1)
        if len(self.names) == 2 and both.sum() > 1:
            first, second = (inputs[name][both] for name in self.names)
            bases = _bases(first, second)
        else:
            bases = tuple(_axes(inputs[name].T @ inputs[name]) for name in self.names)
        for name, basis_DR in zip(self.names, bases, strict=True):
            weight_PD = self.projections[name]
            kept = min(self.width, basis_DR.shape[1])
            weight_PD[:kept] = basis_DR.T[:kept]
            weight_PD[kept:] *= PADDING  # nothing is known of these yet, and zero would never learn

    @torch.no_grad()
    def project(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """Unit vectors of every modality in the common space, [B, P]."""
        unit_BMP = unit(self.projected(self.inputs(batch)))
        return dict(zip(self.names, unit_BMP.unbind(1), strict=True))

    def inputs(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """The modalities on one scale, [B, D] each; zero where missing."""
        return {
            name: (_unit_inputs(batch[name]) - self.get_buffer(f"{name}_mean"))
            / self.get_buffer(f"{name}_spread")
            * batch[f"{name}_present"][:, None]
            for name in self.names
        }

    def present(self, batch: ModalityBatch) -> Tensor:
        """Which item has which modality, [B, M]."""
        return torch.stack([batch[f"{name}_present"] for name in self.names], 1)

    def projected(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Projections [B, M, P], with dropout in training."""
        return torch.stack(
            [F.dropout(inputs[name], self.dropout, self.training) @ self.projections[name].T for name in self.names], 1
        )

    def contrast(self, projected_BMP: Tensor, present_BM: Tensor) -> Tensor:
        """Symmetric InfoNCE, the mean over pairs of modalities; zero where no two items have both."""
        scale = self.log_inverse_temperature.exp().clamp(max=HOTTEST)
        losses = []
        for first, second in itertools.combinations(range(len(self.names)), 2):
            unit_BMP = unit(projected_BMP[present_BM[:, first] & present_BM[:, second]])
            if len(unit_BMP) > 1:
                scores_BB = scale * unit_BMP[:, first] @ unit_BMP[:, second].T
                own_B = torch.arange(len(scores_BB), device=scores_BB.device)
                losses.append((F.cross_entropy(scores_BB, own_B) + F.cross_entropy(scores_BB.T, own_B)) / 2)
        return torch.stack(losses).mean() if losses else projected_BMP.sum() * 0


def as_batch(vectors: Mapping[str, NDArray[np.float32]], present: Mapping[str, NDArray[np.bool_]]) -> dict[str, Tensor]:
    """Arrays as a `ModalityBatch`; whatever lies in rows that are not present becomes zero."""
    batch = {name: torch.from_numpy(np.where(present[name][:, None], vectors[name], np.float32(0))) for name in vectors}
    return batch | {f"{name}_present": torch.from_numpy(np.array(present[name])) for name in vectors}


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last axis; a gradient exists at zero too, which stays zero."""
    return vectors * (vectors.pow(2).sum(-1, keepdim=True) + 1e-12).rsqrt()


def _unit_inputs(vectors_BD: Tensor) -> Tensor:
    # By the largest number first: the square of an extreme one is beyond float32.
    largest_B1 = vectors_BD.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return F.normalize(vectors_BD / largest_B1, dim=1)


def _bases(first_ND: Tensor, second_ND: Tensor) -> tuple[Tensor, ...]:
    """Axes [D, R] of both modalities, most important first, so that axis r of one goes with axis r of the other."""
    if first_ND.shape == second_ND.shape:
        cosine = F.cosine_similarity(first_ND, second_ND, dim=1).mean()
        if cosine > SHARED_SPACE:
            axes_DD = _axes(first_ND.T @ first_ND + second_ND.T @ second_ND)
            return axes_DD, axes_DD
    left_DR, _, right_RD = torch.linalg.svd(first_ND.T @ second_ND, full_matrices=False)
    return left_DR, right_RD.T


def _axes(covariance_DD: Tensor) -> Tensor:
    return torch.linalg.eigh(covariance_DD)[1].flip(1)
