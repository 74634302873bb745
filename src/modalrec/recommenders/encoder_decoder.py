"""Generative recommendation over semantic IDs: an encoder over the history, a decoder over the next item's codes.

The task is TIGER's (Rajput et al. 2023, arXiv 2305.05065, section 3.2): give the next item's semantic ID, code by code,
by beam search over the IDs that exist. There are two forms. `causal` is the fast one: one causal encoder position an
item, all positions trained at once (`_encoder_decoder_causal`). `t5` is TIGER's own: a bidirectional T5 encoder over
code tokens, one target an example (`_encoder_decoder_tiger`). The preset `tiger` has its published size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from modalrec.data.sequences import Sequences
from modalrec.data.trie import Trie
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, Scorer, TopK
from modalrec.recommenders._encoder_decoder_beam import search, seen, walk
from modalrec.recommenders._encoder_decoder_causal import CausalForm
from modalrec.recommenders._encoder_decoder_examples import NextItems
from modalrec.recommenders._encoder_decoder_form import Form
from modalrec.recommenders._encoder_decoder_tiger import T5Config, T5Form
from modalrec.recommenders._transformer import TransformerConfig
from modalrec.training.batches import Batches
from modalrec.training.windows import Windows

ROWS, ROOM = 16, 128
"""Histories and, roughly, items that exhaustive scores are computed for at a time."""


class EncoderDecoderConfig(TransformerConfig):
    """Configuration of `EncoderDecoder`; the transformer's fields are the encoder's.

    The T5 form has relative positions and T5's norm instead of `positions` and `norm`.

    Attributes:
        form: `causal`, or `t5` for TIGER's.
        t5: What only the T5 form has.
        content: Add the items' projected vectors to the embeddings of their codes.
        beam_size: Beams of the search; at least the length of the lists asked for.
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["encoder_decoder"] = "encoder_decoder"
    form: Literal["causal", "t5"] = "causal"
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    t5: T5Config = T5Config()
    content: Literal["none", "sum"] = "none"
    beam_size: int = Field(50, ge=1)
    drop_items: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_fit(self) -> "EncoderDecoderConfig":
        if self.form == "t5":  # its heads have a width of their own
            return self
        return super()._heads_fit()  # type: ignore[operator]


@dataclass
class Prepared:
    """Encoded histories, and the exhaustive scores [B, N] once they were asked for."""

    states: Any
    size: int
    scores_BN: NDArray[np.float32] | None = None


class EncoderDecoder(Recommender, Scorer):
    """Writes the next item as semantic ID, code by code."""

    Config = EncoderDecoderConfig
    needs = frozenset({"codes"})
    config: EncoderDecoderConfig

    def __init__(self, config: EncoderDecoderConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        content = config.content == "sum"
        self.form: Form
        if config.form == "t5":
            self.form = T5Form(config, config.t5, items, content=content)
        else:
            self.form = CausalForm(config, items, content=content)
        self._trie: Trie | None = None

    @classmethod
    def edges(cls, config: EncoderDecoderConfig) -> frozenset[str]:
        """The codes, and the items' vectors where content is used."""
        return cls.needs if config.content == "none" else cls.needs | {"embeddings"}

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items, or one example a target; see `Recommender.batches`."""
        history, drop = self.config.history, self.config.drop_items if augment else 0.0
        if self.config.form == "t5":
            return NextItems(train, history, batch_size, seed, drop)
        return Windows(train, history + 1, batch_size, seed, random_offset=augment, drop_items=drop)

    def loss(self, batch: Any) -> dict[str, torch.Tensor]:
        """See `Form.loss`."""
        return self.form.loss(batch)

    @torch.inference_mode()
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Prepared:
        """Encodes histories."""
        return Prepared(self.form.encode(histories), len(histories))

    @torch.inference_mode()
    def score(self, prepared: Prepared, begin: int, end: int) -> NDArray[np.float32]:
        """Exhaustive log-likelihood [B, end - begin] of items' codes; the beam search approximates its order.

        The first tile pays for all: prefixes that items share are computed once, and items are not neighbours in the
        trie. The scores of a batch are kept for the other tiles, batch x catalogue floats.
        """
        if prepared.scores_BN is None:
            trie = self._own_trie()
            rows = [
                walk(self.form, self.form.rows(prepared.states, row, min(row + ROWS, prepared.size)), trie, ROOM)
                for row in range(0, prepared.size, ROWS)
            ]
            prepared.scores_BN = torch.cat(rows)[:, trie.leaf].cpu().numpy()
        scores: NDArray[np.float32] = prepared.scores_BN[:, begin:end]
        return scores

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """Beam search over the trie of real items; see `Recommender.recommend`.

        Items that share a semantic ID are listed together with equal scores, or, where they would overrun the list's
        end, not at all: the list is then shorter, and an evaluation of it conservative.

        Raises:
            ConfigError: `k` is larger than `beam_size`.
        """
        beams = self.config.beam_size
        if k > beams:
            raise ConfigError(
                f"encoder_decoder.beam_size: {beams} beams cannot give lists of {k}; ask for {beams} items at most"
            )
        trie = self._own_trie()
        seen_BS = seen(trie, histories) if mask_seen else None
        return search(self.form, self.form.encode(histories), trie, k, beams, seen_BS)

    def _own_trie(self) -> Trie:
        device = next(self.parameters()).device
        if self._trie is None or self._trie.order.device != device:
            assert self.items.codes is not None  # noqa: S101 (checked on construction)
            self._trie = Trie.build(self.items.codes, device)
        return self._trie
