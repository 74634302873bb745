"""Product quantization: the vector is cut into slices, each with a k-means codebook of its own.

Jegou et al., "Product Quantization for Nearest Neighbor Search" (2011), section II.B: q(x) = (q_1(x_1), ..., q_L(x_L)),
where x_l are the slices of x. Codes have no order: none of them is coarser than another.

Published settings: 8 slices of 256 in that paper; VQ-Rec (Hou et al., 2023, arXiv 2210.12316) takes 32 of 256.
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from modalrec.config import Config
from modalrec.quantizers import Quantizer, _products

# N items, D dimension, L slices, V codes of a slice, W width of a slice.


class PQConfig(Config):
    """Shape.

    Attributes:
        levels: Slices, each one code, L (the paper's 8).
        codebook_size: Codes of a slice, V (the paper's 256).
        iterations: At most this many of Lloyd's iterations per slice.
    """

    name: Literal["pq"] = "pq"
    levels: PositiveInt = 8
    codebook_size: PositiveInt = 256
    iterations: PositiveInt = 100


class PQ(Quantizer):
    """The nearest k-means centre of every slice."""

    Config = PQConfig
    by_gradient = False
    mean_D: Tensor
    codes_LVW: Tensor

    def __init__(self, config: PQConfig, dimension: int) -> None:
        super().__init__(config, dimension)
        self.config: PQConfig = config
        width = _products.slice_width(dimension, config.levels)
        self.register_buffer("mean_D", torch.zeros(dimension))
        self.register_buffer("codes_LVW", torch.randn(config.levels, config.codebook_size, width))

    @property
    def codebook_sizes(self) -> list[int]:
        """V of every slice."""
        return [self.config.codebook_size] * self.config.levels

    @torch.no_grad()
    def initialise(self, vectors_ND: Tensor) -> None:
        """Clusters each slice."""
        self.mean_D.copy_(vectors_ND.mean(0))
        shape = self.config.levels, self.config.codebook_size, self.config.iterations
        self.codes_LVW.copy_(_products.learn(vectors_ND - self.mean_D, *shape))

    @torch.no_grad()
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """The nearest code of each slice."""
        return _products.choose(vectors_ND - self.mean_D, self.codes_LVW)

    @torch.no_grad()
    def decode(self, codes_NL: Tensor) -> Tensor:
        """The codes end to end."""
        return _products.join(codes_NL, self.codes_LVW, self.dimension) + self.mean_D
