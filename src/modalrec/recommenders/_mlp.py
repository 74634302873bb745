"""Fully connected layers, as click models stack them."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["relu", "dice", "sigmoid"]


class Dice(nn.Module):
    """A ReLU whose bend follows the data (Zhou et al. 2018, arXiv 1706.06978, equation 9).

    x p + alpha x (1 - p), p the sigmoid of x standardised over the batch; in evaluation over what training saw.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-9, momentum=0.01)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x_BH: Tensor) -> Tensor:
        """[B, H] to [B, H]."""
        share_BH = self.norm(x_BH).sigmoid()
        return x_BH * (share_BH + self.alpha * (1 - share_BH))


def activation(name: Activation, width: int) -> nn.Module:
    """The layer of that name."""
    return {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}[name]() if name != "dice" else Dice(width)


def tail(widths: Sequence[int], kind: Activation, dropout: float, batch_norm: bool = False) -> nn.Sequential:
    """What follows a first linear layer of `widths[0]` outputs: norm, activation, dropout, and the layers after it."""
    layers: list[nn.Module] = []
    for place, width in enumerate(widths):
        if place:
            layers.append(linear(widths[place - 1], width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(activation(kind, width))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


def mlp(
    inputs: int, widths: Sequence[int], kind: Activation = "relu", dropout: float = 0.0, batch_norm: bool = False
) -> nn.Sequential:
    """Linear layers of these widths, each with norm, activation and dropout."""
    return nn.Sequential(linear(inputs, widths[0]), *tail(widths, kind, dropout, batch_norm))


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with Glorot's normal weights and no bias at first, as the published models start."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
