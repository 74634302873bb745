"""DIN, the Deep Interest Network: what of a user's past matters for this item?

DIN (Zhou et al. 2018, arXiv 1706.06978) as systems of MicroLens' click challenge run it: the weight of an item of the
history is an MLP of [q, k, q - k, q * k], q the target's vector and k the item's, without softmax. Three things make it
fast and change no result: histories are packed, so that no padding is computed; a distinct item of the batch is
embedded once; and the first layer is taken apart, W [q, k, q - k, q * k] = (Wq + Wd) q + (Wk - Wd) k + Wp (q * k), of
which the first term is computed once a row and the second once an item.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.recommenders._mlp import linear, mlp, tail
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders._rows import RowModel, RowModelConfig
from modalrec.training.rows import Batch

# B rows, P places of their histories, U distinct items, D width of an item's vector, H width of the first layer.


class DINConfig(RowModelConfig):
    """Configuration of `DIN`.

    Attributes:
        attention: Widths of the attention's hidden layers.
        attention_activation: After each of them.
        attention_dropout: After each of them.
        layers: Widths of the hidden layers over item, history and user.
        dropout: After each of them.
        batch_norm: Before the activation of each of them.
    """

    name: Literal["din"] = "din"
    attention: tuple[int, ...] = Field((64,), min_length=1)
    attention_activation: Literal["relu", "dice", "sigmoid"] = "relu"
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    layers: tuple[int, ...] = Field((128, 64), min_length=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    batch_norm: bool = False


class DIN(RowModel):
    """Attention of the target over the history, then an MLP."""

    title = "DIN"
    Config = DINConfig
    config: DINConfig

    def __init__(self, config: DINConfig, items: RowSpace) -> None:
        super().__init__(config, items)
        width = self.fields.item_width
        self.attention = Attention(width, config.attention, config.attention_activation, config.attention_dropout)
        self.dnn = mlp(2 * width + self.fields.row_width, config.layers, "relu", config.dropout, config.batch_norm)
        self.head = linear(config.layers[-1], 1)

    def forward(self, batch: Batch) -> Tensor:
        """[B] log-odds of a click."""
        items_UD = self.fields.items(batch)
        targets_BD = F.embedding(batch["target"], items_UD)
        interests_BD = self.attention(targets_BD, items_UD, batch)
        predicted_B1: Tensor = self.head(self.dnn(torch.cat([self.fields.rows(batch), targets_BD, interests_BD], 1)))
        return predicted_B1[:, 0]


class Attention(nn.Module):
    """The sum of a history's items, each weighted by an MLP of [q, k, q - k, q * k]."""

    def __init__(self, width: int, widths: tuple[int, ...], kind: Literal["relu", "dice", "sigmoid"], dropout: float):
        super().__init__()
        self.width = width
        self.first = linear(4 * width, widths[0])
        self.rest = tail(widths, kind, dropout)
        self.last = linear(widths[-1], 1)

    def forward(self, targets_BD: Tensor, items_UD: Tensor, batch: Batch) -> Tensor:
        """[B, D]; zeros for an empty history."""
        query_HD, key_HD, difference_HD, product_HD = self.first.weight.split(self.width, 1)
        of_row_BH = F.linear(targets_BD, query_HD + difference_HD, self.first.bias)
        of_item_UH = F.linear(items_UD, key_HD - difference_HD)
        products_PD = F.embedding(batch["row"], targets_BD) * F.embedding(batch["past"], items_UD)
        hidden_PH = F.linear(products_PD, product_HD)
        hidden_PH = hidden_PH + F.embedding(batch["row"], of_row_BH) + F.embedding(batch["past"], of_item_UH)
        weights_P = self.last(self.rest(hidden_PH))[:, 0]
        return F.embedding_bag(batch["past"], items_UD, batch["offset"], mode="sum", per_sample_weights=weights_P)
