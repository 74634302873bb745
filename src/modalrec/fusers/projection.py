"""Fuser `projection`: a small network on the modalities side by side."""

from typing import Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from modalrec.fusers._reconstructing import Reconstructing, ReconstructingConfig

# B items of a batch, M modalities, P length of the common space and of the fused vectors.


class ProjectionConfig(ReconstructingConfig):
    """Settings of the fuser.

    Attributes:
        name: projection.
        hidden: Width of the hidden layer.
    """

    name: Literal["projection"] = "projection"
    hidden: int = Field(default=512, ge=1)


class Projection(Reconstructing):
    """z = A c + B gelu(C c) with c = [h_1; ...; h_M], the modalities' projections end to end: [B, M * P].

    The straight path A keeps what is linear from having to pass the hidden layer. A missing modality is a learnt
    vector. The objective is that of `Reconstructing`: all modalities from the fused vector of a part of them, and
    InfoNCE between the projections.
    """

    Config = ProjectionConfig

    def build_join(self, config: Any) -> None:
        """The straight path and the hidden layer."""
        joined = len(self.names) * self.width
        self.straight = nn.Linear(joined, self.width)
        self.inward = nn.Linear(joined, config.hidden)
        self.outward = nn.Linear(config.hidden, self.width)

    def combine(self, tokens_BMP: Tensor) -> Tensor:
        """The network's output [B, P]."""
        joined = tokens_BMP.flatten(1)
        fused_BP: Tensor = self.straight(joined) + self.outward(F.gelu(self.inward(joined)))
        return fused_BP
