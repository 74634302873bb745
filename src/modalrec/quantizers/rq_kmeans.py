"""Residual k-means: each level clusters what the earlier ones left; nothing is trained by gradient.

Residual quantization as in Chen et al., "Approximate Nearest Neighbor Search by Residual Vector Quantization" (2010):
with r_0 = x - mean and r_{l+1} = r_l - e_{c_l}, the codebook of level l holds the k-means centres of all r_l. The
balanced form is that of OneRec (Deng et al., 2025, arXiv 2502.18965, algorithm 1), where no cluster has more than
ceil(N / V) items; here its capacities come from Sinkhorn's plan instead of a greedy walk over the centres.

Published settings: levels=3 codebook_size=256 (GRID, NonameUntitled/tiger), levels=3 codebook_size=8192 balanced=true
(OneRec).
"""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from modalrec.config import Config
from modalrec.quantizers import Quantizer
from modalrec.quantizers._residuals import residual_codes
from modalrec.training.kmeans import kmeans

# N items, D dimension, L levels, V codes of a level.


class RQKMeansConfig(Config):
    """Shape and balance.

    Attributes:
        levels: Codes per item, L.
        codebook_size: Codes to choose from at each level, V.
        balanced: Clusters of equal size while learning: codes are used more evenly, at a larger error. An item's codes
            are the nearest ones in any case, so that new items are coded like old ones.
        iterations: At most this many of Lloyd's iterations per level.
    """

    name: Literal["rq_kmeans"] = "rq_kmeans"
    levels: PositiveInt = 3
    codebook_size: PositiveInt = 256
    balanced: bool = False
    iterations: PositiveInt = 100


class RQKMeans(Quantizer):
    """The sum of one k-means centre per level."""

    Config = RQKMeansConfig
    by_gradient = False
    mean_D: Tensor
    codes_LVD: Tensor

    def __init__(self, config: RQKMeansConfig, dimension: int) -> None:
        super().__init__(config, dimension)
        self.config: RQKMeansConfig = config
        self.register_buffer("mean_D", torch.zeros(dimension))
        self.register_buffer("codes_LVD", torch.randn(config.levels, config.codebook_size, dimension))

    @property
    def codebook_sizes(self) -> list[int]:
        """V at every level."""
        return [self.config.codebook_size] * self.config.levels

    @torch.no_grad()
    def initialise(self, vectors_ND: Tensor) -> None:
        """Clusters the residuals of each level in turn."""
        self.mean_D.copy_(vectors_ND.mean(0))
        residuals_ND = vectors_ND - self.mean_D
        for codes_VD in self.codes_LVD:
            found = kmeans(
                residuals_ND, len(codes_VD), iterations=self.config.iterations, balanced=self.config.balanced
            )
            codes_VD.copy_(found.centres_VD)
            residuals_ND = residuals_ND - codes_VD[found.labels_N]

    @torch.no_grad()
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """The nearest code of each level's residual."""
        return residual_codes(vectors_ND - self.mean_D, self.codes_LVD)

    @torch.no_grad()
    def decode(self, codes_NL: Tensor) -> Tensor:
        """The sum of the codes."""
        levels = torch.arange(self.config.levels, device=codes_NL.device)
        return self.codes_LVD[levels, codes_NL].sum(1) + self.mean_D
