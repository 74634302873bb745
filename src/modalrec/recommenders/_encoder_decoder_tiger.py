"""The T5 form, as TIGER has it (Rajput et al. 2023, arXiv 2305.05065, section 3.2).

A bidirectional encoder reads the codes of the history's items as tokens, a decoder writes the codes of the next item.
An example is a history and the item after it: no token of the target is among the encoder's. Each level's softmax is
over the level's codes alone, whose embeddings are the output layer too, scaled by width ** -0.5 as in T5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.config import Config
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._encoder_decoder_form import Form, ItemCodes
from modalrec.recommenders._encoder_decoder_t5 import Decoder, Encoder, Size
from modalrec.recommenders._transformer import TransformerConfig
from modalrec.training.windows import PAD, pad

# B histories, T items of a history, S its tokens, L levels, V codes of a level, D width, W prefixes, t codes so far,
# H heads, E width of a head, I = H E, Y keys and values of all layers.

SPREAD = 2_654_435_761
"""Of Knuth's multiplicative hash: neighbouring numbers get tokens far apart."""


class T5Config(Config):
    """What the T5 form has besides the fields that both forms share.

    Attributes:
        decoder_layers: Layers of the decoder; 0 for as many as the encoder has.
        head_width: Of each attention head, whatever the states' width.
        separator: A learnt token after the codes of every item.
        item_positions: A learnt vector for each item's place, counted from the latest, added to its tokens.
        user_tokens: Size of the table of user tokens, 0 for none. A recommender is given a history and no user, so the
            token is a hash of the semantic ID of the user's first item: people who began with the same item share
            it, unlike TIGER's, which is a hash of the user's number.
    """

    decoder_layers: int = Field(0, ge=0)
    head_width: int = Field(64, ge=1)
    separator: bool = False
    item_positions: bool = False
    user_tokens: int = Field(0, ge=0)


class States(NamedTuple):
    """The encoder's states as keys and values [B, H, S, E] of every decoder layer, and the padding [B, 1, 1, S]."""

    memory: list[tuple[Tensor, Tensor]]
    padding_B11S: Tensor | None


class Cache(NamedTuple):
    """The history, and the keys and values [B, W, t, Y, I] of each prefix's tokens."""

    states: States
    past_BWtYI: Tensor


class T5Form(Form):
    """See the module's text."""

    def __init__(self, config: TransformerConfig, t5: T5Config, items: ItemSpace, *, content: bool) -> None:
        super().__init__()
        width = config.width
        self.history, self.scale = config.history, width**-0.5
        size = Size(width, config.layers, config.heads, t5.head_width, config.feed_forward * width, config.dropout)
        self.codes = ItemCodes(items, width, 1.0, content=content)
        self.encoder = Encoder(size)
        self.decoder = Decoder(size._replace(layers=t5.decoder_layers or config.layers))
        self.start = nn.Parameter(torch.randn(width))
        self.separator = nn.Parameter(torch.randn(width)) if t5.separator else None
        self.positions = nn.Parameter(0.1 * torch.randn(config.history, width)) if t5.item_positions else None
        self.users = nn.Embedding(t5.user_tokens, width) if t5.user_tokens else None

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `Form.loss`.

        Args:
            batch: As `NextItems` builds it.
        """
        states = self.read(batch["history"], batch["first"])
        codes_BL = self.codes.codes_NL[batch["target"]]  # type: ignore[index]
        logits = self.levels(states, codes_BL)
        losses = [F.cross_entropy(logits_BV, codes_BL[:, level]) for level, logits_BV in enumerate(logits)]
        return {"loss": torch.stack(losses).sum()}

    def read(self, items_BT: Tensor, first_B: Tensor) -> States:
        """Encodes histories, padded at the end; `first_B` is the first item of each user, seen long ago perhaps."""
        x_BSD, real_BS = self.embed(items_BT, first_B)
        padding_B11S = None
        if not bool(real_BS.all()):
            padding_B11S = torch.zeros_like(real_BS, dtype=x_BSD.dtype).masked_fill_(~real_BS, -torch.inf)[
                :, None, None
            ]
        return States(self.decoder.remember(self.encoder(x_BSD, padding_B11S)), padding_B11S)

    def embed(self, items_BT: Tensor, first_B: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's tokens [B, S, D], and which of them are real [B, S]."""
        batch, time = items_BT.shape
        real_BT = items_BT != PAD
        x_BTLD = self.codes(items_BT.clamp(min=0))
        if self.separator is not None:
            x_BTLD = torch.cat([x_BTLD, self.separator.expand(batch, time, 1, -1)], dim=2)
        if self.positions is not None:
            back_BT = (real_BT.sum(1, keepdim=True) - 1 - torch.arange(time, device=items_BT.device)).clamp(min=0)
            x_BTLD = x_BTLD + self.positions[back_BT][:, :, None]
        real_BS = real_BT.repeat_interleave(x_BTLD.shape[2], 1)
        x_BSD = x_BTLD.flatten(1, 2)
        if self.users is not None:
            x_BSD = torch.cat([self.users(self.user_tokens(first_B))[:, None], x_BSD], dim=1)
            real_BS = torch.cat([real_BS.new_ones(batch, 1), real_BS], dim=1)
        return x_BSD, real_BS

    def user_tokens(self, first_B: Tensor) -> Tensor:
        """The tokens [B] of users by their first item; see `T5Config.user_tokens`."""
        assert self.users is not None  # noqa: S101 (only asked for where there are some)
        codes_BL = self.codes.codes_NL[first_B]  # type: ignore[index]
        hash_B = torch.zeros_like(first_B)
        for code_B in codes_BL.T:
            hash_B = (hash_B + code_B + 1) * SPREAD % 2**31
        return hash_B % self.users.num_embeddings

    def levels(self, states: States, codes_BL: Tensor) -> list[Tensor]:
        """The logits [B, V] of every level, each given the true codes before it."""
        levels = codes_BL.shape[1]
        before = [self.codes.of(level, codes_BL[:, level]) for level in range(levels - 1)]
        x_BLD = torch.stack([self.start.expand(len(codes_BL), -1), *before], dim=1)
        x_BLD = self.decoder(x_BLD, *states)
        return [self._logits(level, x_BLD[:, level]) for level in range(levels)]

    def encode(self, histories: Sequence[NDArray[np.int32]]) -> States:
        """See `Form.encode`."""
        device = self.start.device
        items_BT = torch.as_tensor(pad([history[-self.history :] for history in histories]), device=device)
        first_B = torch.tensor([int(history[0]) for history in histories], device=device)
        return self.read(items_BT, first_B)

    def rows(self, states: States, begin: int, end: int) -> States:
        """See `Form.rows`."""
        padding = states.padding_B11S
        memory = [(k_BHSE[begin:end], v_BHSE[begin:end]) for k_BHSE, v_BHSE in states.memory]
        return States(memory, None if padding is None else padding[begin:end])

    def begin(self, states: States) -> tuple[Tensor, Any]:
        """See `Form.begin`."""
        x_B1D = self.start.expand(len(states.memory[0][0]), 1, -1)
        x_B1D, past_B11YI = self.decoder.step(x_B1D, None, *states)
        return self._logits(0, x_B1D).log_softmax(-1), Cache(states, past_B11YI)

    def advance(self, level: int, codes_BW: Tensor, parents_BW: Tensor, cache: Cache) -> tuple[Tensor, Any]:
        """See `Form.advance`."""
        batch, before, *rest = cache.past_BWtYI.shape
        rows_BW = parents_BW + before * torch.arange(batch, device=parents_BW.device)[:, None]
        past_BWtYI = cache.past_BWtYI.flatten(0, 1)[rows_BW.flatten()].view(batch, -1, *rest)
        x_BWD, past_BWtYI = self.decoder.step(self.codes.of(level - 1, codes_BW), past_BWtYI, *cache.states)
        return self._logits(level, x_BWD).log_softmax(-1), Cache(cache.states, past_BWtYI)

    def _logits(self, level: int, x_D: Tensor) -> Tensor:
        return F.linear(x_D * self.scale, self.codes.band(level))
