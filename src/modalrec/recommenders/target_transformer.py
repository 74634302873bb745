"""A transformer over a history that knows what it is asked about, then crossed features.

The form that won MicroLens' click challenge: every item of the history is joined with the target before the first
block, so that attention can compare pairs; the last outputs one by one and the largest of all of them go, with target
and user, through DCNv2 (Wang et al. 2021, arXiv 2008.13535) beside an MLP.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.recommenders._mlp import linear, mlp
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders._rows import RowModel, RowModelConfig
from modalrec.training.rows import Batch

# B rows, T places of the longest history of the batch, K last outputs, U distinct items, D width of an item's vector,
# W = 2 D, X width of what is crossed.


class TargetTransformerConfig(RowModelConfig):
    """Configuration of `TargetTransformer`.

    Attributes:
        blocks: Transformer blocks.
        heads: Attention heads; they divide twice the item's width.
        feed_forward_width: Width inside a block.
        attention_dropout: Inside a block.
        last: How many of the latest outputs are taken one by one.
        crosses: Layers of crossed features.
        layers: Widths of the MLP beside them.
        head: Widths of the MLP after both.
        dropout: After every layer of the MLPs.
    """

    name: Literal["target_transformer"] = "target_transformer"
    blocks: int = Field(2, ge=1)
    heads: int = Field(1, ge=1)
    feed_forward_width: int = Field(256, ge=1)
    attention_dropout: float = Field(0.2, ge=0, lt=1)
    last: int = Field(16, ge=1)
    crosses: int = Field(3, ge=1)
    layers: tuple[int, ...] = Field((128, 64), min_length=1)
    head: tuple[int, ...] = Field((64, 32), min_length=1)
    dropout: float = Field(0.2, ge=0, lt=1)


class TargetTransformer(RowModel):
    """Self-attention over pairs of history item and target, DCNv2 beside an MLP."""

    Config = TargetTransformerConfig
    config: TargetTransformerConfig

    def __init__(self, config: TargetTransformerConfig, items: RowSpace) -> None:
        super().__init__(config, items)
        width = 2 * self.fields.item_width
        block = nn.TransformerEncoderLayer(
            width, config.heads, config.feed_forward_width, config.attention_dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(block, config.blocks, enable_nested_tensor=False)
        self.pooled = linear(width, width)
        crossed = self.fields.row_width + self.fields.item_width + (config.last + 1) * width
        self.crosses = nn.ModuleList(linear(crossed, crossed) for _ in range(config.crosses))
        self.dnn = mlp(crossed, config.layers, "relu", config.dropout)
        self.head = nn.Sequential(
            mlp(crossed + config.layers[-1], config.head, "relu", config.dropout), linear(config.head[-1], 1)
        )

    def forward(self, batch: Batch) -> Tensor:
        """[B] log-odds of a click."""
        items_UD = self.fields.items(batch)
        targets_BD = F.embedding(batch["target"], items_UD)
        history_BX = self._history(items_UD, targets_BD, batch)
        first_BX = torch.cat([self.fields.rows(batch), targets_BD, history_BX], 1)
        crossed_BX = first_BX
        for layer in self.crosses:
            crossed_BX = crossed_BX + first_BX * layer(crossed_BX)
        predicted_B1: Tensor = self.head(torch.cat([crossed_BX, self.dnn(first_BX)], 1))
        return predicted_B1[:, 0]

    def _history(self, items_UD: Tensor, targets_BD: Tensor, batch: Batch) -> Tensor:
        """The last outputs one by one and the largest of all, [B, (K + 1) W]; zeros where there is no item."""
        lengths_B = torch.bincount(batch["row"], minlength=len(targets_BD))
        longest = max(1, int(lengths_B.max()))
        places = torch.arange(longest, device=targets_BD.device)
        there_BT = places < lengths_B[:, None]
        past_BT = torch.zeros_like(there_BT, dtype=torch.int64)
        past_BT[there_BT] = batch["past"]
        pairs_BTW = torch.cat([F.embedding(past_BT, items_UD), targets_BD[:, None].expand(-1, longest, -1)], 2)
        # Softmax over nothing is NaN: an empty history attends to its first place, and is wiped out below.
        masked_BT = ~there_BT & (places > 0)
        states_BTW = self.encoder(pairs_BTW, src_key_padding_mask=masked_BT).masked_fill(~there_BT[..., None], 0.0)
        largest_BW = states_BTW.masked_fill(~there_BT[..., None], -torch.inf).amax(1)
        largest_BW = self.pooled(largest_BW.masked_fill((lengths_B == 0)[:, None], 0.0))
        wanted_BK = lengths_B[:, None] - 1 - torch.arange(self.config.last, device=places.device)
        last_BKW = states_BTW.gather(1, wanted_BK.clamp(min=0)[..., None].expand(-1, -1, states_BTW.shape[2]))
        last_BKW = last_BKW.masked_fill((wanted_BK < 0)[..., None], 0.0)
        return torch.cat([last_BKW.flatten(1), largest_BW], 1)
