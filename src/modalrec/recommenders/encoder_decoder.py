"""Generative recommendation over semantic IDs: an encoder over the history, a decoder over the next item's codes.

The task is TIGER's (Rajput et al. 2023, arXiv 2305.05065, section 3.2): give the next item's semantic ID, code by code.
This is its fast causal form. The encoder is a causal transformer with one position per item, so every position of a
history is trained at once; the decoder predicts the codes of the following item from the encoder's state and the codes
before, as the depth model of an RQ-transformer does (Lee et al. 2022, arXiv 2203.01941, section 3.2). The encoder's
input at a position is that position's item, the target is the next one: no target code is ever in the input.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.config import Config
from modalrec.data.sequences import Sequences
from modalrec.data.trie import Trie
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, Scorer, TopK
from modalrec.training.batches import Batches
from modalrec.training.windows import PAD, Windows, pad

# B histories, T positions, L levels, V codes of a level, D width, H heads, W beams, C children, S tile of items.


class EncoderDecoderConfig(Config):
    """Configuration of `EncoderDecoder`.

    Attributes:
        width: Of the encoder and decoder states.
        layers: Of the encoder.
        heads: Of the encoder's attention; they divide the width.
        dropout: On the input, attention and feed-forward outputs.
        history: Items of a history that the encoder sees, the latest ones.
        beam_size: Beams of the search; at least the length of the lists asked for.
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["encoder_decoder"] = "encoder_decoder"
    width: int = Field(128, ge=8)
    layers: int = Field(2, ge=1)
    heads: int = Field(4, ge=1)
    dropout: float = Field(0.2, ge=0, lt=1)
    history: int = Field(50, ge=1)
    beam_size: int = Field(50, ge=1)
    drop_items: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "EncoderDecoderConfig":
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self


class EncoderDecoder(Recommender, Scorer):
    """Writes the next item as semantic ID, code by code: a causal encoder, a decoder by level, beam search."""

    Config = EncoderDecoderConfig
    needs = frozenset({"codes"})
    config: EncoderDecoderConfig

    def __init__(self, config: EncoderDecoderConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        if items.codes is None:
            raise ConfigError("encoder_decoder: needs semantic IDs; give --codes, the output of `quantize`")
        width, sizes = config.width, items.codebook_sizes
        self.code_embeddings = nn.ModuleList([nn.Embedding(size, width) for size in sizes])
        self.positions = nn.Parameter(torch.zeros(config.history, width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.encoder_norm = nn.LayerNorm(width)
        self.decoder = nn.ModuleList([Level(width, size, level) for level, size in enumerate(sizes)])
        for embedding in self.code_embeddings:
            nn.init.normal_(embedding.weight, std=width**-0.5)  # type: ignore[arg-type]
        nn.init.normal_(self.positions, std=0.02)
        self.register_buffer("codes_NL", torch.tensor(items.codes, dtype=torch.int64), persistent=False)
        self._trie: Trie | None = None

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items; see `Recommender.batches`."""
        drop = self.config.drop_items if augment else 0.0
        return Windows(train, self.config.history + 1, batch_size, seed, random_offset=augment, drop_items=drop)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the next item's codes at every position, summed over levels (nats per item).

        Args:
            batch: [B, T + 1] items, oldest first, padded at the end with PAD.
        """
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]
        real_BT = targets_BT != PAD
        states_PD = self.encode(inputs_BT)[real_BT]
        codes_PL = self.codes_NL[targets_BT[real_BT]]  # type: ignore[index]
        losses = [
            F.cross_entropy(logits_PV, codes_PL[:, level])
            for level, logits_PV in enumerate(self._levels(states_PD, codes_PL))
        ]
        return {"loss": torch.stack(losses).sum()}

    def encode(self, items_BT: Tensor) -> Tensor:
        """Encoder states [B, T, D]; the state of a position depends on the items up to it."""
        codes_BTL = self.codes_NL[items_BT.clamp(min=0)]  # type: ignore[index]
        x_BTD = self.positions[: items_BT.shape[1]] + sum(
            embedding(codes_BTL[..., level]) for level, embedding in enumerate(self.code_embeddings)
        )
        x_BTD = self.dropout(x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.encoder_norm(x_BTD)

    @torch.inference_mode()
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """The encoder's state after each history, [B, D]."""
        device = self.positions.device
        items_BT = torch.as_tensor(pad([h[-self.config.history :] for h in histories]), device=device)
        last_B = (items_BT != PAD).sum(1) - 1
        return self.encode(items_BT)[torch.arange(len(histories), device=device), last_B]

    @torch.inference_mode()
    def score(self, prepared: Tensor, begin: int, end: int) -> NDArray[np.float32]:
        """Exhaustive log-likelihood [B, end - begin] of items' codes; the beam search approximates its order."""
        codes_SL = self.codes_NL[begin:end]  # type: ignore[index]
        scores = np.empty((len(prepared), len(codes_SL)), np.float32)
        for row, state_D in enumerate(prepared):
            total_S = torch.zeros(len(codes_SL), device=state_D.device)
            for level, logits_SV in enumerate(self._levels(state_D.expand(len(codes_SL), -1), codes_SL)):
                total_S += logits_SV.log_softmax(-1).gather(1, codes_SL[:, level : level + 1])[:, 0]
            scores[row] = total_S.cpu().numpy()
        return scores

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """Beam search over the trie of real items; see `Recommender.recommend`.

        Raises:
            ConfigError: `k` is larger than `beam_size`.
        """
        if k > self.config.beam_size:
            raise ConfigError(f"encoder_decoder.beam_size: {self.config.beam_size} beams cannot give lists of {k}")
        trie = self._own_trie()
        state_BD = self.prepare(histories)
        seen_BS = _seen(trie, histories) if mask_seen else None
        nodes_BW = torch.zeros(len(histories), 1, dtype=torch.int64, device=state_BD.device)
        scores_BW = torch.zeros(len(histories), 1, device=state_BD.device)
        prefix_BWD = torch.zeros(len(histories), 1, state_BD.shape[1], device=state_BD.device)
        for level, decoder in enumerate(self.decoder):
            logp_BWV = decoder(state_BD[:, None], prefix_BWD).log_softmax(-1)
            nodes_BWC, real_BWC = trie.children(level, nodes_BW)
            gained_BWC = logp_BWV.gather(2, trie.code[level][nodes_BWC])
            if seen_BS is not None:
                real_BWC &= _unseen(trie, level + 1, nodes_BWC, seen_BS)
            scores_BX = (scores_BW[..., None] + gained_BWC).masked_fill(~real_BWC, -torch.inf).flatten(1)
            scores_BW, kept_BW = scores_BX.topk(min(self.config.beam_size, scores_BX.shape[1]), dim=1)
            nodes_BW = nodes_BWC.flatten(1).gather(1, kept_BW)
            parent_BW = kept_BW // nodes_BWC.shape[2]
            prefix_BWD = prefix_BWD.gather(1, parent_BW[..., None].expand(-1, -1, prefix_BWD.shape[2]))
            prefix_BWD = prefix_BWD + self.code_embeddings[level](trie.code[level][nodes_BW])
        return TopK.best_of(scores_BW, k, trie.order[nodes_BW])

    def _levels(self, state_PD: Tensor, codes_PL: Tensor) -> list[Tensor]:
        """The logits [P, V] of every level, each given the true codes before it."""
        prefix_PD = torch.zeros_like(state_PD)
        logits: list[Tensor] = []
        for level, decoder in enumerate(self.decoder):
            logits.append(decoder(state_PD, prefix_PD))
            prefix_PD = prefix_PD + self.code_embeddings[level](codes_PL[:, level])
        return logits

    def _own_trie(self) -> Trie:
        if self._trie is None or self._trie.order.device != self.positions.device:
            assert self.items.codes is not None  # noqa: S101 (checked on construction)
            self._trie = Trie.build(self.items.codes, self.positions.device)
        return self._trie


class Block(nn.Module):
    """A pre-norm causal transformer block."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.drop = config.heads, config.dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """States [B, T, D] to states."""
        batch, time, width = x_BTD.shape
        qkv = self.qkv(self.attention_norm(x_BTD)).view(batch, time, 3, self.heads, width // self.heads)
        q_BHTE, k_BHTE, v_BHTE = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHTE = F.scaled_dot_product_attention(q_BHTE, k_BHTE, v_BHTE, is_causal=True)
        x_BTD = x_BTD + self.dropout(self.out(mixed_BHTE.transpose(1, 2).reshape(batch, time, width)))
        return x_BTD + self.dropout(self.mlp(self.mlp_norm(x_BTD)))


class Level(nn.Module):
    """The decoder of one level: from the encoder's state and the codes before, logits over this level's codes only."""

    def __init__(self, width: int, size: int, level: int) -> None:
        super().__init__()
        self.prefix = nn.Linear(width, width, bias=False) if level else None
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.out_norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, size)

    def forward(self, state_D: Tensor, prefix_D: Tensor) -> Tensor:
        """States [..., D] and summed embeddings [..., D] of the codes before to logits [..., V]."""
        x_D = state_D if self.prefix is None else state_D + self.prefix(prefix_D)
        x_D = x_D + self.mlp(self.norm(x_D))
        logits: Tensor = self.logits(self.out_norm(x_D))
        return logits


def _seen(trie: Trie, histories: Sequence[NDArray[np.int32]]) -> Tensor:
    """Sorted places [B, S] of each history's distinct items, padded with the number of items."""
    n, device = len(trie.order), trie.order.device
    unique = [np.unique(history) for history in histories]
    seen = np.full((len(unique), max(map(len, unique))), n, np.int64)
    for row, items in enumerate(unique):
        seen[row, : len(items)] = items
    padded = torch.cat([trie.rank, torch.tensor([n], device=device)])
    return padded[torch.as_tensor(seen, device=device)].sort(1).values


def _unseen(trie: Trie, level: int, nodes_BWC: Tensor, seen_BS: Tensor) -> Tensor:
    """Whether each node has an item below it that the history lacks."""
    first = trie.first_item[level][nodes_BWC].flatten(1)
    end = trie.first_item[level][nodes_BWC + 1].flatten(1)
    taken = torch.searchsorted(seen_BS, end) - torch.searchsorted(seen_BS, first)
    return (taken < end - first).view(nodes_BWC.shape)
