"""The causal transformer over a history, one position an item, that several recommenders encode with."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.config import Config
from modalrec.training.windows import PAD, pad

# B histories, T positions, D width, H heads, E width of a head.


class TransformerConfig(Config):
    """What recommenders with this encoder have in common.

    Attributes:
        width: Of the states.
        layers: Blocks of attention and feed-forward.
        heads: Of the attention; they divide the width.
        feed_forward: Width of the feed-forward's hidden layer over `width`.
        dropout: On the input, and on what attention and feed-forward add.
        history: Items of a history that the encoder sees, the latest ones.
        positions: `learned`, one vector a place; or `rotary`, which turns queries and keys by their place.
        norm: `pre` normalises what goes into attention and feed-forward, which trains deep stacks; `post` what comes
            out, as SASRec does.
    """

    width: int = Field(64, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(2, ge=1)
    feed_forward: int = Field(4, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    history: int = Field(50, ge=1)
    positions: Literal["learned", "rotary"] = "learned"
    norm: Literal["pre", "post"] = "pre"

    @model_validator(mode="after")
    def _heads_fit(self) -> "TransformerConfig":
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(f"positions=rotary: needs heads of an even width, not {self.width // self.heads}")
        return self


class CausalTransformer(nn.Module):
    """Blocks of causal self-attention (Kang and McAuley 2018, arXiv 1808.09781, section III)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.length = config.history
        self.positions: nn.Parameter | None = None
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.zeros(config.history, config.width))
            nn.init.normal_(self.positions, std=0.02)
        else:
            self.register_buffer("turns", _turns(config.history, config.width // config.heads), persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = nn.LayerNorm(config.width)
        self.first_norm = nn.LayerNorm(config.width) if config.norm == "post" else nn.Identity()

    def forward(self, x_BTD: Tensor) -> Tensor:
        """States [B, T, D] of items' vectors [B, T, D], oldest first; a state depends on the items up to its own."""
        time = x_BTD.shape[1]
        turns = None
        if self.positions is not None:
            x_BTD = x_BTD + self.positions[:time]
        else:
            turns = self.turns[:, :time]  # type: ignore[index]
        x_BTD = self.dropout(self.first_norm(x_BTD))
        for block in self.blocks:
            x_BTD = block(x_BTD, turns)
        states_BTD: Tensor = self.norm(x_BTD)
        return states_BTD


class Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, inner = config.width, config.feed_forward * config.width
        self.heads, self.pre = config.heads, config.norm == "pre"
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, turns: Tensor | None) -> Tensor:
        """States [B, T, D] to states; `turns` as `_turns` gives them."""
        if self.pre:
            x_BTD = x_BTD + self.dropout(self._attend(self.attention_norm(x_BTD), turns))
            return x_BTD + self.dropout(self.mlp(self.mlp_norm(x_BTD)))
        x_BTD = self.attention_norm(x_BTD + self.dropout(self._attend(x_BTD, turns)))
        normed_BTD: Tensor = self.mlp_norm(x_BTD + self.dropout(self.mlp(x_BTD)))
        return normed_BTD

    def _attend(self, x_BTD: Tensor, turns: Tensor | None) -> Tensor:
        batch, time, width = x_BTD.shape
        qkv = self.qkv(x_BTD).view(batch, time, 3, self.heads, width // self.heads)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4)
        if turns is not None:
            q_BHTE, k_BHTE = _turned(q_BHTE, turns), _turned(k_BHTE, turns)
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)
        mixed_BTD: Tensor = self.out(mixed_BHTE.transpose(1, 2).reshape(batch, time, width))
        return mixed_BTD


def latest(histories: Sequence[NDArray[np.int32]], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The last `length` items of each history, padded at the end [B, T], and the place of each last item [B]."""
    items_BT = torch.as_tensor(pad([history[-length:] for history in histories]), device=device)
    return items_BT, (items_BT != PAD).sum(1) - 1


def _turns(length: int, width: int) -> Tensor:
    """Cosines and sines [2, T, E / 2] of rotary positions (Su et al. 2021, arXiv 2104.09864, equation 15)."""
    rates_E = 10_000.0 ** (-torch.arange(0, width, 2) / width)
    angles_TE = torch.arange(length)[:, None] * rates_E
    return torch.stack([angles_TE.cos(), angles_TE.sin()])


def _turned(x_BHTE: Tensor, turns: Tensor) -> Tensor:
    cos, sin = turns
    left, right = x_BHTE.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
