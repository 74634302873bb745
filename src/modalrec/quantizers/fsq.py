"""FSQ: an autoencoder whose hidden numbers are rounded to a few values each; there are no codebooks to learn.

Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (2023, arXiv 2309.15505). Each number z of the hidden
vector is bounded to (-V/2, V/2) by f(z) = V/2 tanh(z), set to the middle q of its unit interval, and passes gradients
straight through. For odd V that is the paper's rounding (section 3.1); for even V it is symmetric, where the paper
shifts by half a step. The numbers of one code form a grid; its index is the code, in mixed base: here one grid per
level, side by side, so that an item has several codes. Training minimises |x - D(q(f(E(x))))|^2 alone: no code dies.

Published settings: grid=[8,6,5] for about 2^8 codes, [8,5,5,5] for 2^10, [7,5,5,5,5] for 2^12 (table 1).
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from modalrec.quantizers._autoencoder import Autoencoder, AutoencoderConfig, Coded

# N items of a batch, L levels, G numbers of a grid, W = L x G hidden numbers.

MARGIN = 1e-4


class FSQConfig(AutoencoderConfig):
    """Shape.

    Attributes:
        levels: Codes per item, L.
        grid: Values of each number of a code, at least 2; their product is the size of the codebook (the paper's
            [8, 6, 5] is 240).
    """

    name: Literal["fsq"] = "fsq"
    levels: PositiveInt = 4
    grid: tuple[Annotated[int, Field(ge=2)], ...] = Field((8, 6, 5), min_length=1)


class FSQ(Autoencoder):
    """An autoencoder whose hidden numbers are rounded to a grid."""

    Config = FSQConfig
    spread_W: Tensor
    values_W: Tensor
    bases_G: Tensor

    def __init__(self, config: FSQConfig, dimension: int) -> None:
        width = config.levels * len(config.grid)
        super().__init__(config, dimension, width)
        self.config: FSQConfig = config
        self.register_buffer("spread_W", torch.ones(width))
        self.register_buffer("values_W", torch.tensor(config.grid).repeat(config.levels), persistent=False)
        bases = [math.prod(config.grid[:place]) for place in range(len(config.grid))]
        self.register_buffer("bases_G", torch.tensor(bases), persistent=False)

    @property
    def codebook_sizes(self) -> list[int]:
        """The product of the grid, at every level."""
        return [math.prod(self.config.grid)] * self.config.levels

    def fit_codes(self, hidden_NW: Tensor) -> None:
        """Scales each number so that a normal distribution fills its values about evenly."""
        spread_W = hidden_NW.std(0, correction=0)
        self.spread_W.copy_(torch.where(spread_W > 0, spread_W, 1.0))

    def code(self, hidden_NW: Tensor) -> Coded:
        """Rounds the bounded numbers; there is no penalty."""
        bounded_NW = self._bounded(hidden_NW)
        centres_NW = (bounded_NW + self.values_W / 2).floor() + 0.5 - self.values_W / 2
        return Coded(self._back(bounded_NW + (centres_NW - bounded_NW).detach()), hidden_NW.new_zeros(()))

    def choose(self, hidden_NW: Tensor) -> Tensor:
        """The index of each grid's point."""
        digits_NW = (self._bounded(hidden_NW) + self.values_W / 2).floor().long()
        return (digits_NW.view(len(hidden_NW), self.config.levels, -1) * self.bases_G).sum(2)

    def stand_for(self, codes_NL: Tensor) -> Tensor:
        """The grids' points."""
        values_G = self.values_W[: len(self.bases_G)]
        digits_NW = (codes_NL[:, :, None] // self.bases_G % values_G).flatten(1)
        return self._back(digits_NW + 0.5 - self.values_W / 2)

    def _bounded(self, hidden_NW: Tensor) -> Tensor:
        """Numbers between minus and plus half of the values that there are."""
        return torch.tanh(hidden_NW / self.spread_W) * (self.values_W * ((1 - MARGIN) / 2))

    def _back(self, centres_NW: Tensor) -> Tensor:
        """Grid points on the scale of the hidden numbers, so that the decoder starts as a projection back."""
        return torch.atanh(centres_NW / (self.values_W / 2)) * self.spread_W
