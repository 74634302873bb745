"""Generation and dense retrieval in one model: items that nobody has met yet are found by their content.

LIGER (Yang et al. 2024, arXiv 2411.18814): a generative model hardly ever writes the semantic ID of an item that it was
not trained on, a dense one scores every item and pays for it. So one encoder learns both, and a dense score orders what
was generated together with all cold items, those without a train event. With the state s after a history, the next item
y with codes y_1 ... y_L, the vector v_i of an item (its projected content and the sum of its codes' embeddings), the
temperature t, the candidates C, the generated ones among them G, and the weight w = `generated_weight`:

    L_codes = - sum_l log p(y_l | s, y_1 ... y_l-1)
    L_dense = - log softmax_i( cos(s, v_i) / t )[y]            over the warm items i, or over the targets of a batch
    score(i) = log( (1 - w) softmax_C( cos(s, v_i) / t ) + w softmax_G( log p(codes of i | s) ) )

Two things are ours. The paper compares with the encoder's vector of an item's text as it is, w = 0; here the vectors
that go in are those that are compared with, so that a history speaks for items like its own from the start, and in
training an item loses its codes with the probability `code_dropout`, so that content alone has to do, as it does for a
cold item. Both together lift warm and cold items (`tests/benchmarks/README.md`, "New items").

The authors take a T5; here encoder and decoder are the causal form of `encoder_decoder`, which learns from every
position at once and whose input at a position is that position's item, never the target. Cold items are no negatives: a
model that is told after every history that they are wrong would learn to rank them last.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from modalrec.data.sequences import Sequences
from modalrec.data.trie import Trie
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, TopK
from modalrec.recommenders._encoder_decoder_beam import search, seen
from modalrec.recommenders._encoder_decoder_causal import CausalForm
from modalrec.recommenders._transformer import TransformerConfig, latest
from modalrec.training.batches import Batches
from modalrec.training.softmax import catalogue_cross_entropy
from modalrec.training.windows import PAD, Windows

# B histories, T positions, P positions that have a target, N items, L levels, D width, G generated items, C cold items,
# k length of the lists.


class HybridConfig(TransformerConfig):
    """Configuration of `Hybrid`.

    Attributes:
        candidates: Items that are generated for a history, to be ranked with the cold ones (20 in the paper); at least
            the length of the lists asked for.
        beam_size: Beams of the search, at least `candidates`.
        temperature: Of the cosines.
        negatives: What a target's cosine is compared with: those of all warm items, or of the targets of the batch.
        dense_weight: Of the dense loss beside that of the codes.
        code_dropout: Share of the items that are their content alone in a training step.
        generated_weight: Share of the decoder's probability in the score; 0 as in the paper.
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["hybrid"] = "hybrid"
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    candidates: int = Field(50, ge=1)
    beam_size: int = Field(50, ge=1)
    temperature: float = Field(0.07, gt=0)
    negatives: Literal["catalogue", "batch"] = "catalogue"
    dense_weight: float = Field(1.0, gt=0)
    code_dropout: float = Field(0.3, ge=0, lt=1)
    generated_weight: float = Field(0.3, ge=0, lt=1)
    drop_items: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _beams_suffice(self) -> "HybridConfig":
        if self.beam_size < self.candidates:
            raise ValueError(f"beam_size={self.beam_size} cannot give candidates={self.candidates}")
        return self


class Hybrid(Recommender):
    """See the module's text."""

    Config = HybridConfig
    needs = frozenset({"codes", "embeddings"})
    item_tensors = frozenset({"cold_N"})
    config: HybridConfig
    cold_N: Tensor

    def __init__(self, config: HybridConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        if items.codes is None:
            raise ConfigError("hybrid: needs semantic IDs; give --codes, the output of `quantize`")
        if items.content is None:
            raise ConfigError("hybrid: needs the items' vectors; give --embeddings")
        self.form = CausalForm(config, items, content=True)
        self.register_buffer("cold_N", torch.zeros(len(items), dtype=torch.bool))
        self._trie: Trie | None = None

    def rows_of_new(self, name: str, rows: Tensor, n_new: int) -> Tensor:
        """New items are cold."""
        return rows.new_ones(n_new)

    def observe(self, train: Sequences) -> None:
        """Learns which items are cold; see `Recommender.observe`."""
        self.cold_N = torch.from_numpy(train.train_counts() == 0).to(self.cold_N.device)

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items; see `Recommender.batches`."""
        drop = self.config.drop_items if augment else 0.0
        return Windows(train, self.config.history + 1, batch_size, seed, random_offset=augment, drop_items=drop)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """`codes`, in nats an item, and `dense`, means over all positions of [B, T + 1] items, and their weighted sum.

        Args:
            batch: Oldest first, padded at the end with PAD.
        """
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]
        real_BT = targets_BT != PAD
        targets_P = targets_BT[real_BT]
        kept_N = torch.rand(len(self.cold_N), device=batch.device) >= self.config.code_dropout
        states_PD = self.form.encoder(self.vectors(inputs_BT.clamp(min=0), kept_N))[real_BT]
        codes_PL = self.form.codes.codes_NL[targets_P]  # type: ignore[index]
        logits = self.form.levels(states_PD, codes_PL)
        codes = torch.stack([F.cross_entropy(of, codes_PL[:, level]) for level, of in enumerate(logits)]).sum()
        among = targets_P.unique() if self.config.negatives == "batch" else (~self.cold_N).nonzero()[:, 0]
        compared_ND = F.normalize(self.vectors(among, kept_N), dim=-1)
        places_P = torch.searchsorted(among, targets_P)
        dense = catalogue_cross_entropy(
            F.normalize(states_PD, dim=-1), compared_ND, places_P, 1 / self.config.temperature
        )
        return {"loss": codes + self.config.dense_weight * dense, "codes": codes, "dense": dense}

    def vectors(self, items: Tensor, kept_N: Tensor | None = None) -> Tensor:
        """Vectors [..., D] of items, which go in and are compared with: content, and codes where they were learnt.

        Args:
            items: Indices [...].
            kept_N: [N] the items that keep their codes in a training step; cold ones have content alone in any case.
        """
        codes, warm_N = self.form.codes, ~self.cold_N
        assert codes.content is not None  # noqa: S101 (checked on construction)
        coded_N = warm_N & kept_N if self.training and kept_N is not None else warm_N
        vectors_D: Tensor = codes.content(items) + codes.coded(items) * coded_N[items][..., None]
        return vectors_D

    def encode(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """The state after each history, [B, D]."""
        items_BT, last_B = latest(histories, self.config.history, self.cold_N.device)
        states_BTD: Tensor = self.form.encoder(self.vectors(items_BT.clamp(min=0)))
        return states_BTD[torch.arange(len(items_BT), device=items_BT.device), last_B]

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """The best of what the beam search finds and all cold items; see `Recommender.recommend`.

        Raises:
            ConfigError: `k` is larger than `candidates`.
        """
        if k > self.config.candidates:
            raise ConfigError(
                f"hybrid.candidates: {self.config.candidates} of them cannot give lists of {k}; ask for fewer items"
            )
        states_BD, trie = self.encode(histories), self._own_trie()
        seen_BS = seen(trie, histories) if mask_seen else None
        generated = search(self.form, states_BD, trie, self.config.candidates, self.config.beam_size, seen_BS)
        queries_BD = F.normalize(states_BD, dim=-1) / self.config.temperature
        items_BG = torch.from_numpy(generated.items).to(queries_BD.device)
        again_BG = (items_BG < 0) | self.cold_N[items_BG]  # what is cold comes with the others that are
        dense_BG = torch.einsum("bd,bgd->bg", queries_BD, F.normalize(self.vectors(items_BG.clamp(min=0)), dim=-1))
        generated_BG = torch.from_numpy(generated.scores).to(dense_BG.device)
        cold_C = self.cold_N.nonzero()[:, 0]
        dense_BC = queries_BD @ F.normalize(self.vectors(cold_C), dim=-1).T
        if mask_seen:
            for row, history in enumerate(histories):
                own = torch.tensor(history, dtype=torch.int64, device=cold_C.device)
                places = torch.searchsorted(cold_C, own[self.cold_N[own]])
                dense_BC[row, places] = -torch.inf
        scores = self._mixed(
            dense_BG.masked_fill(again_BG, -torch.inf), generated_BG.masked_fill(again_BG, -torch.inf), dense_BC
        )
        return TopK.best_of(scores, k, torch.cat([items_BG, cold_C.expand(len(items_BG), -1)], dim=1))

    def _mixed(self, dense_BG: Tensor, generated_BG: Tensor, dense_BC: Tensor) -> Tensor:
        """Scores [B, G + C] from both scores of the generated items and the dense one of the cold ones; -inf stays."""
        dense = torch.cat([dense_BG, dense_BC], dim=1)
        if not self.config.generated_weight:
            return dense
        by_codes = torch.cat([generated_BG, torch.full_like(dense_BC, -torch.inf)], dim=1)
        share = self.config.generated_weight
        both = (1 - share) * dense.softmax(1) + share * by_codes.softmax(1).nan_to_num()
        return both.log().masked_fill(dense == -torch.inf, -torch.inf)

    def _own_trie(self) -> Trie:
        if self._trie is None or self._trie.order.device != self.cold_N.device:
            assert self.items.codes is not None  # noqa: S101 (checked on construction)
            self._trie = Trie.build(self.items.codes, self.cold_N.device)
        return self._trie
