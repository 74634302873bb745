"""Optimised product quantization: product quantization after a rotation that is learnt with the codebooks.

Ge et al., "Optimized Product Quantization" (2013/2014): minimise |R (x - mean) - q(R (x - mean))|^2 over the rotation R
and the codebooks of q. The start is the paper's parametric solution (section 3.2): principal components, dealt out so
that the products of the slices' variances are even. Then (section 3.1) two steps alternate: codebooks and codes for a
fixed R, and R for fixed codes, which is the Procrustes problem: R = V U^T where X^T Y = U S V^T, for vectors X and
reconstructions Y.

Published settings: RPG (Hou et al., 2025, arXiv 2506.05781) takes 16 to 64 slices of 256, OPQ's own paper 8 of 256.
"""

from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from modalrec.config import Config
from modalrec.quantizers import Quantizer, _products

# N items, D dimension, E dimension rounded up to whole slices, L slices, V codes of a slice, W width of a slice.


class OPQConfig(Config):
    """Shape and rounds.

    Attributes:
        levels: Slices, each one code, L (RPG's 32).
        codebook_size: Codes of a slice, V (256 in both).
        rounds: Alternations between codes and rotation (the paper's 100 gain little over 10).
        iterations: At most this many of Lloyd's iterations per slice at the end; each round does one.
    """

    name: Literal["opq"] = "opq"
    levels: PositiveInt = 32
    codebook_size: PositiveInt = 256
    rounds: NonNegativeInt = 10
    iterations: PositiveInt = 100


class OPQ(Quantizer):
    """The nearest k-means centre of every slice of the rotated vector."""

    Config = OPQConfig
    by_gradient = False
    mean_D: Tensor
    rotation_DE: Tensor
    codes_LVW: Tensor

    def __init__(self, config: OPQConfig, dimension: int) -> None:
        super().__init__(config, dimension)
        self.config: OPQConfig = config
        width = _products.slice_width(dimension, config.levels)
        self.register_buffer("mean_D", torch.zeros(dimension))
        self.register_buffer("rotation_DE", torch.eye(dimension, width * config.levels))
        self.register_buffer("codes_LVW", torch.randn(config.levels, config.codebook_size, width))

    @property
    def codebook_sizes(self) -> list[int]:
        """V of every slice."""
        return [self.config.codebook_size] * self.config.levels

    @torch.no_grad()
    def initialise(self, vectors_ND: Tensor) -> None:
        """Starts from dealt-out components, then alternates between codes and rotation."""
        config = self.config
        self.mean_D.copy_(vectors_ND.mean(0))
        centred_ND = vectors_ND - self.mean_D
        self.rotation_DE.copy_(_dealt_out(centred_ND, config.levels, self.rotation_DE.shape[1]))
        self.codes_LVW.copy_(self._learn(centred_ND, iterations=2 if config.rounds else config.iterations))
        for _ in range(config.rounds):
            rotated_NE = centred_ND @ self.rotation_DE
            labels_NL = _products.choose(rotated_NE, self.codes_LVW)
            self._move(rotated_NE, labels_NL)
            coded_NE = _products.join(labels_NL, self.codes_LVW, rotated_NE.shape[1])
            left, _, right = torch.linalg.svd(centred_ND.T @ coded_NE, full_matrices=False)
            self.rotation_DE.copy_(left @ right)
        if config.rounds:
            self.codes_LVW.copy_(self._learn(centred_ND, config.iterations))

    @torch.no_grad()
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """The nearest code of each slice of the rotated vector."""
        return _products.choose((vectors_ND - self.mean_D) @ self.rotation_DE, self.codes_LVW)

    @torch.no_grad()
    def decode(self, codes_NL: Tensor) -> Tensor:
        """The codes end to end, rotated back."""
        joined_NE = _products.join(codes_NL, self.codes_LVW, self.rotation_DE.shape[1])
        return joined_NE @ self.rotation_DE.T + self.mean_D

    def _learn(self, centred_ND: Tensor, iterations: int) -> Tensor:
        return _products.learn(centred_ND @ self.rotation_DE, self.config.levels, self.config.codebook_size, iterations)

    def _move(self, rotated_NE: Tensor, labels_NL: Tensor) -> None:
        """Each code to the mean of what it stands for; codes that nothing has stay."""
        parts = _products.slices(rotated_NE, self.config.levels)
        for codes_VW, part_NW, labels_N in zip(self.codes_LVW, parts, labels_NL.T, strict=True):
            sums_VW = torch.zeros_like(codes_VW).index_add_(0, labels_N, part_NW)
            counts_V = torch.bincount(labels_N, minlength=len(codes_VW))
            codes_VW.copy_(torch.where(counts_V[:, None] > 0, sums_VW / counts_V.clamp(min=1)[:, None], codes_VW))


def _dealt_out(centred_ND: Tensor, levels: int, width: int) -> Tensor:
    """Principal axes as columns [D, E], each given to the slice with room whose product of variances is least."""
    dimension = centred_ND.shape[1]
    variances, axes_DD = torch.linalg.eigh(centred_ND.T @ centred_ND / len(centred_ND))
    order = variances.argsort(descending=True)
    logs = (variances[order].clamp(min=0) + 1e-9 * variances.max().clamp(min=1e-30)).log()
    logs = logs - logs.min()  # only which slice is least matters
    filled, sums = [0] * levels, [0.0] * levels
    rotation_DE = centred_ND.new_zeros(dimension, width)
    room = width // levels
    for place, axis in enumerate(order.tolist()):
        level = min((level for level in range(levels) if filled[level] < room), key=lambda level: sums[level])
        rotation_DE[:, level * room + filled[level]] = axes_DD[:, axis]
        filled[level] += 1
        sums[level] += float(logs[place])
    return rotation_DE
