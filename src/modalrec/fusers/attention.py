"""Fuser `attention`: the modalities of an item attend to each other, as tokens."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from modalrec.fusers._reconstructing import Reconstructing, ReconstructingConfig

# B items of a batch, M modalities, P length of the common space and of the fused vectors, H heads.


class AttentionConfig(ReconstructingConfig):
    """Settings of the fuser.

    Attributes:
        name: attention.
        heads: Attention heads; they divide `dimension`.
    """

    name: Literal["attention"] = "attention"
    heads: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "AttentionConfig":
        if self.dimension % self.heads:
            raise ValueError(f"heads={self.heads} does not divide dimension={self.dimension}")
        return self


class Attention(Reconstructing):
    """z = mean_m [h_m + O Attention(h_m + e_m; all h + e)], multi-head self-attention over one token per modality.

    h [B, M, P] are the modalities' projections and e [M, P] tells them apart. Every query sees M keys: over a single
    key, attention would be the identity of its value whatever was asked. A missing modality is a learnt vector. The
    objective is that of `Reconstructing`: all modalities from the fused vector of a part of them, and InfoNCE between
    the projections.
    """

    Config = AttentionConfig

    def build_join(self, config: Any) -> None:
        """Queries, keys and values, the output, and the modalities' own vectors."""
        self.heads = config.heads
        self.kind_MP = nn.Parameter(torch.randn(len(self.names), self.width) / self.width**0.5 / 10)
        self.queries_keys_values = nn.Linear(self.width, 3 * self.width)
        self.output = nn.Linear(self.width, self.width)

    def combine(self, tokens_BMP: Tensor) -> Tensor:
        """The mean of the tokens after attention [B, P]."""
        rows, modalities, width = tokens_BMP.shape
        seen_BMP = tokens_BMP + self.kind_MP
        parts = self.queries_keys_values(seen_BMP).view(rows, modalities, 3, self.heads, width // self.heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        read_BMP = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).reshape_as(tokens_BMP)
        return (tokens_BMP + self.output(read_BMP)).mean(1)
