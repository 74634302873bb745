"""Fuser `gated`: every number of the fused vector is a mixture of the modalities', by a gate that sees them all."""

from typing import Any, Literal

from torch import Tensor, nn

from modalrec.fusers._reconstructing import Reconstructing, ReconstructingConfig

# B items of a batch, M modalities, P length of the common space and of the fused vectors.


class GatedConfig(ReconstructingConfig):
    """Settings of the fuser.

    Attributes:
        name: gated.
    """

    name: Literal["gated"] = "gated"


class Gated(Reconstructing):
    """z = sum_m g_m * h_m with gates g = softmax over modalities of G [h_1; ...; h_M], one per number: [B, M, P].

    h [B, M, P] are the modalities' projections. A missing modality is a learnt vector, which the gate learns to close.
    The objective is that of `Reconstructing`: all modalities from the fused vector of a part of them, and InfoNCE
    between the projections.
    """

    Config = GatedConfig

    def build_join(self, config: Any) -> None:
        """The gate."""
        modalities = len(self.names)
        self.gate = nn.Linear(modalities * self.width, modalities * self.width)

    def combine(self, tokens_BMP: Tensor) -> Tensor:
        """The gated sum [B, P]."""
        gates_BMP = self.gate(tokens_BMP.flatten(1)).view_as(tokens_BMP).softmax(1)
        return (gates_BMP * tokens_BMP).sum(1)
