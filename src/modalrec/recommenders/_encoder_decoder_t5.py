"""T5's stacks (Raffel et al. 2020, arXiv 1910.10683, section 2.1), with a decoder that many beams step through at once.

Pre-norm blocks with RMSNorm, no biases, ReLU feed-forwards, attention without a scale and one relative position bias a
stack, shared by its layers. Linear maps of one input are one matrix: queries, keys and values; keys and values of the
cross-attention.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# B histories, S tokens of a history, Q queries, K keys, D width, H heads, E width of a head, W beams, t codes so far,
# I = H E width of all heads, Y keys and values of all layers.

BUCKETS, FURTHEST = 32, 128
"""Of relative positions: distances from FURTHEST on share a bucket, and beyond a few, neighbours do."""


class Size(NamedTuple):
    """Of a stack: width, layers, heads, width of a head, width of the feed-forward, dropout."""

    width: int
    layers: int
    heads: int
    head_width: int
    feed_forward: int
    dropout: float


class Encoder(nn.Module):
    """A bidirectional stack."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bias = RelativeBias(size, bidirectional=True)
        self.layers = nn.ModuleList([EncoderLayer(size) for _ in range(size.layers)])
        self.norm = nn.RMSNorm(size.width, eps=1e-6)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, x_BSD: Tensor, padding_B11S: Tensor | None) -> Tensor:
        """States [B, S, D] of embedded tokens; `padding_B11S` is 0 for real tokens and -inf for others."""
        places = torch.arange(x_BSD.shape[1], device=x_BSD.device)
        bias = self.bias(places, places)
        if padding_B11S is not None:
            bias = bias + padding_B11S
        x_BSD = self.dropout(x_BSD)
        for layer in self.layers:
            x_BSD = layer(x_BSD, bias)
        states_BSD: Tensor = self.dropout(self.norm(x_BSD))
        return states_BSD


class Decoder(nn.Module):
    """An autoregressive stack over a few tokens, with attention to the encoder's states."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.bias = RelativeBias(size, bidirectional=False)
        self.layers = nn.ModuleList([DecoderLayer(size) for _ in range(size.layers)])
        self.norm = nn.RMSNorm(size.width, eps=1e-6)
        self.dropout = nn.Dropout(size.dropout)

    def remember(self, states_BSD: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values [B, H, S, E] of the encoder's states, one pair a layer."""
        return [layer.remember(states_BSD) for layer in self.layers]  # type: ignore[operator]

    def forward(self, x_BQD: Tensor, memory: list[tuple[Tensor, Tensor]], padding_B11S: Tensor | None) -> Tensor:
        """States [B, Q, D] of the tokens of one target; each sees the tokens up to itself."""
        places = torch.arange(x_BQD.shape[1], device=x_BQD.device)
        later_QQ = torch.full((len(places),) * 2, -torch.inf, dtype=x_BQD.dtype, device=x_BQD.device).triu(1)
        bias_1HQQ = self.bias(places, places) + later_QQ
        x_BQD = self.dropout(x_BQD)
        for layer, own in zip(self.layers, memory, strict=True):
            x_BQD = layer(x_BQD, bias_1HQQ, own, padding_B11S)
        states_BQD: Tensor = self.dropout(self.norm(x_BQD))
        return states_BQD

    def step(
        self,
        x_BWD: Tensor,
        past_BWtYI: Tensor | None,
        memory: list[tuple[Tensor, Tensor]],
        padding_B11S: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """States [B, W, D] of the next token of W prefixes, and the keys and values of theirs.

        Args:
            x_BWD: The token of each prefix.
            past_BWtYI: Keys and values of the t tokens before, Y = 2 x layers of them; None at the first token.
            memory: What `remember` gave.
            padding_B11S: 0 for real tokens of the history and -inf for others, or None where all are real.
        """
        time = 0 if past_BWtYI is None else past_BWtYI.shape[2]
        places = torch.arange(time + 1, device=x_BWD.device)
        bias_tH = self.bias(places[-1:], places)[0, :, 0].T
        new: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            past = None if past_BWtYI is None else past_BWtYI[:, :, :, 2 * number : 2 * number + 2]
            x_BWD, kv_BW2I = layer.step(x_BWD, past, bias_tH, memory[number], padding_B11S)  # type: ignore[operator]
            new.append(kv_BW2I)
        now_BW1YI = torch.cat(new, dim=2)[:, :, None]
        return self.norm(x_BWD), now_BW1YI if past_BWtYI is None else torch.cat([past_BWtYI, now_BW1YI], dim=2)


class RelativeBias(nn.Module):
    """What attention adds to its logits for the distance of two tokens."""

    def __init__(self, size: Size, *, bidirectional: bool) -> None:
        super().__init__()
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.randn(BUCKETS, size.heads) * size.width**-0.5)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[1, H, Q, K] for the places of queries and keys."""
        offsets_QK = keys[None] - queries[:, None]
        return self.weight[bucket(offsets_QK, self.bidirectional)].permute(2, 0, 1)[None]


def bucket(offsets: Tensor, bidirectional: bool) -> Tensor:
    """The bucket of key place minus query place; one direction has half of the buckets, or all if it is the only one.

    Half of a direction's buckets are one distance each, the others grow with its logarithm.
    """
    buckets = BUCKETS // 2 if bidirectional else BUCKETS
    distance = offsets.abs() if bidirectional else (-offsets).clamp(min=0)
    exact = buckets // 2
    grown = (distance.clamp(min=1) / exact).log() / math.log(FURTHEST / exact) * (buckets - exact)
    found = torch.where(distance < exact, distance, (exact + grown.long()).clamp(max=buckets - 1))
    return found + buckets * (offsets > 0) if bidirectional else found


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(size.width, eps=1e-6)
        self.attention = SelfAttention(size)
        self.feed_forward = FeedForward(size)

    def forward(self, x_BSD: Tensor, bias: Tensor) -> Tensor:
        """States to states."""
        states_BSD: Tensor = self.feed_forward(x_BSD + self.attention(self.norm(x_BSD), bias))
        return states_BSD


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder's states, feed-forward."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm, self.cross_norm = (nn.RMSNorm(size.width, eps=1e-6) for _ in range(2))
        self.attention = SelfAttention(size)
        self.cross = CrossAttention(size)
        self.feed_forward = FeedForward(size)

    def remember(self, states_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """See `Decoder.remember`."""
        return self.cross.remember(states_BSD)

    def forward(
        self, x_BQD: Tensor, bias: Tensor, memory: tuple[Tensor, Tensor], padding_B11S: Tensor | None
    ) -> Tensor:
        """States to states."""
        x_BQD = x_BQD + self.attention(self.norm(x_BQD), bias)
        x_BQD = x_BQD + self.cross(self.cross_norm(x_BQD), memory, padding_B11S)
        states_BQD: Tensor = self.feed_forward(x_BQD)
        return states_BQD

    def step(
        self,
        x_BWD: Tensor,
        past_BWt2I: Tensor | None,
        bias_tH: Tensor,
        memory: tuple[Tensor, Tensor],
        padding_B11S: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """See `Decoder.step`; the cross-attention takes beams for queries of one history."""
        mixed_BWD, kv_BW2I = self.attention.step(self.norm(x_BWD), past_BWt2I, bias_tH)
        x_BWD = x_BWD + mixed_BWD
        x_BWD = x_BWD + self.cross(self.cross_norm(x_BWD), memory, padding_B11S)
        return self.feed_forward(x_BWD), kv_BW2I


class SelfAttention(nn.Module):
    """Attention of tokens to tokens of the same sequence."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        inner = size.heads * size.head_width
        self.heads, self.head_width, self.inner, self.drop = size.heads, size.head_width, inner, size.dropout
        self.qkv, self.out = nn.Linear(size.width, 3 * inner, bias=False), nn.Linear(inner, size.width, bias=False)
        self.dropout = nn.Dropout(size.dropout)
        nn.init.normal_(self.qkv.weight, std=size.width**-0.5)
        nn.init.normal_(self.qkv.weight[:inner], std=(size.width * size.head_width) ** -0.5)
        nn.init.normal_(self.out.weight, std=inner**-0.5)

    def forward(self, x_BSD: Tensor, bias: Tensor) -> Tensor:
        """What attention adds to the states."""
        batch, length, _ = x_BSD.shape
        qkv = self.qkv(x_BSD).view(batch, length, 3, self.heads, self.head_width)
        q_BHSE, k_BHSE, v_BHSE = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHSE = _attend(q_BHSE, k_BHSE, v_BHSE, bias, self.drop if self.training else 0.0)
        added_BSD: Tensor = self.dropout(self.out(mixed_BHSE.transpose(1, 2).reshape(batch, length, self.inner)))
        return added_BSD

    def step(self, x_BWD: Tensor, past_BWt2I: Tensor | None, bias_tH: Tensor) -> tuple[Tensor, Tensor]:
        """What attention of each prefix's new token to the prefix adds; its keys and values [B, W, 2, I].

        With a handful of keys a prefix, sums of products beat thousands of tiny matrix products.
        """
        q_BWI, k_BWI, v_BWI = self.qkv(x_BWD).chunk(3, dim=-1)
        kv_BW2I = torch.stack([k_BWI, v_BWI], dim=2)
        if past_BWt2I is None:
            return self.out(v_BWI), kv_BW2I
        split = (*x_BWD.shape[:2], -1, self.heads, self.head_width)
        k_BWtHE = torch.cat([past_BWt2I[:, :, :, 0], k_BWI[:, :, None]], dim=2).view(split)
        v_BWtHE = torch.cat([past_BWt2I[:, :, :, 1], v_BWI[:, :, None]], dim=2).view(split)
        weights_BWtH = ((q_BWI.reshape(split) * k_BWtHE).sum(-1) + bias_tH).softmax(2)
        mixed_BWHE = (weights_BWtH[..., None] * v_BWtHE).sum(2)
        return self.out(mixed_BWHE.flatten(2)), kv_BW2I


class CrossAttention(nn.Module):
    """Attention of a target's tokens, or of beams, to the encoder's states."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        inner = size.heads * size.head_width
        self.heads, self.head_width, self.inner, self.drop = size.heads, size.head_width, inner, size.dropout
        self.q, self.out = nn.Linear(size.width, inner, bias=False), nn.Linear(inner, size.width, bias=False)
        self.kv = nn.Linear(size.width, 2 * inner, bias=False)
        self.dropout = nn.Dropout(size.dropout)
        nn.init.normal_(self.q.weight, std=(size.width * size.head_width) ** -0.5)
        nn.init.normal_(self.kv.weight, std=size.width**-0.5)
        nn.init.normal_(self.out.weight, std=inner**-0.5)

    def remember(self, states_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """See `Decoder.remember`."""
        batch, length, _ = states_BSD.shape
        kv = self.kv(states_BSD).view(batch, length, 2, self.heads, self.head_width)
        k_BHSE, v_BHSE = kv.permute(2, 0, 3, 1, 4)
        return k_BHSE, v_BHSE

    def forward(self, x_BQD: Tensor, memory: tuple[Tensor, Tensor], padding_B11S: Tensor | None) -> Tensor:
        """What attention adds to the states."""
        batch, queries, _ = x_BQD.shape
        q_BHQE = self.q(x_BQD).view(batch, queries, self.heads, self.head_width).transpose(1, 2)
        mixed_BHQE = _attend(q_BHQE, *memory, padding_B11S, self.drop if self.training else 0.0)
        added_BQD: Tensor = self.dropout(self.out(mixed_BHQE.transpose(1, 2).reshape(batch, queries, self.inner)))
        return added_BQD


class FeedForward(nn.Module):
    """States plus what two layers with a ReLU between make of them."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(size.width, eps=1e-6)
        self.wide = nn.Linear(size.width, size.feed_forward, bias=False)
        self.narrow = nn.Linear(size.feed_forward, size.width, bias=False)
        self.dropout = nn.Dropout(size.dropout)
        nn.init.normal_(self.wide.weight, std=size.width**-0.5)
        nn.init.normal_(self.narrow.weight, std=size.feed_forward**-0.5)

    def forward(self, x_BQD: Tensor) -> Tensor:
        """States to states."""
        added_BQD: Tensor = self.dropout(self.narrow(self.dropout(self.wide(self.norm(x_BQD)).relu_())))
        return x_BQD + added_BQD


def _attend(q_BHQE: Tensor, k_BHKE: Tensor, v_BHKE: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """Weighted means [B, H, Q, E] of values; T5 does not scale the logits."""
    mixed_BHQE: Tensor = F.scaled_dot_product_attention(
        q_BHQE, k_BHKE, v_BHKE, attn_mask=bias, dropout_p=dropout, scale=1.0
    )
    return mixed_BHQE
