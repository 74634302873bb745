"""The networks of quantizers that are autoencoders: principal components, and perceptrons with a linear residual."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# N items of a batch, D input dimension, C principal components.

PERCEPTRON_START = 0.1
"""The perceptrons start at a tenth of their usual output: the projection leads, and all weights have gradients."""


class Components(nn.Module):
    """Principal components of the vectors, all scaled by the same number; or the vectors as they are.

    Args:
        dimension: Length of the vectors, D.
        components: How many components, C; None passes the vectors through.
    """

    mean_D: Tensor
    components_DC: Tensor
    scale: Tensor

    def __init__(self, dimension: int, components: int | None) -> None:
        super().__init__()
        self.passes = components is None
        self.width = dimension if components is None else min(components, dimension)
        if not self.passes:
            self.register_buffer("mean_D", torch.zeros(dimension))
            self.register_buffer("components_DC", torch.eye(dimension, self.width))
            self.register_buffer("scale", torch.ones(()))

    @torch.no_grad()
    def fit(self, vectors_ND: Tensor) -> None:
        """Finds the components; those that too few vectors leave open are zero."""
        if self.passes:
            return
        self.mean_D.copy_(vectors_ND.mean(0))
        centred_ND = vectors_ND - self.mean_D
        found = min(self.width, len(vectors_ND))
        self.components_DC.zero_()
        self.components_DC[:, :found] = torch.svd_lowrank(centred_ND, found, niter=4)[2]
        spread = (centred_ND @ self.components_DC).pow(2).mean().sqrt()
        self.scale.copy_(torch.where(spread > 0, spread, 1.0))

    def forward(self, vectors_ND: Tensor) -> Tensor:
        """[N, D] to [N, C]."""
        return vectors_ND if self.passes else (vectors_ND - self.mean_D) @ self.components_DC / self.scale

    def back(self, inputs_NC: Tensor) -> Tensor:
        """[N, C] to [N, D]."""
        return inputs_NC if self.passes else inputs_NC * self.scale @ self.components_DC.T + self.mean_D


class ResidualPerceptron(nn.Module):
    """A linear map plus a multilayer perceptron with ReLU, or the perceptron alone.

    Args:
        widths: From the input's to the output's.
        project: Start as the projection onto the leading inputs, which are principal components.
        norm: LayerNorm before each ReLU.
        dropout: Share of hidden numbers that a training step leaves out.
        linear: Whether there is a linear map.
    """

    def __init__(
        self, widths: list[int], project: bool = True, norm: bool = False, dropout: float = 0.0, linear: bool = True
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(widths[0], widths[-1]) if linear else None
        last = nn.Linear(widths[-2], widths[-1])
        if project and self.linear is not None:
            nn.init.eye_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)
            with torch.no_grad():
                last.weight.mul_(PERCEPTRON_START)
                last.bias.zero_()
        hidden: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            hidden += [nn.Linear(before, after), *([nn.LayerNorm(after)] if norm else []), nn.ReLU()]
            hidden += [Dropout(dropout)] if dropout else []
        self.perceptron = nn.Sequential(*hidden, last)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, first width] to [N, last width]."""
        through: Tensor = self.perceptron(inputs)
        return through if self.linear is None else through + self.linear(inputs)


class Dropout(nn.Module):
    """Dropout that spends 16 random bits on a number: on a CPU, torch's takes longer than the layer's product.

    Args:
        share: Of the numbers that are set to zero, rounded to 1/65,536.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = round(share * 2**16) / 2**16

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs, in training without some and the others larger for it."""
        if not self.training:
            return inputs
        if inputs.device.type != "cpu":
            return F.dropout(inputs, self.share)
        words = torch.randint(-(2**63), 2**63 - 1, (-(-inputs.numel() // 4),))
        bits = words.view(torch.int16)[: inputs.numel()].view(inputs.shape)
        kept = (bits >= round(self.share * 2**16) - 2**15).to(inputs.dtype)
        return inputs * kept.mul_(1 / (1 - self.share))
