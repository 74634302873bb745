"""Generation and dense retrieval in one model: items that nobody had yet are found by their content.

LIGER (Yang et al. 2024, arXiv 2411.18814): a generative model hardly ever writes the semantic ID of an item that it was
not trained on, a dense one scores every item and pays for it. So one encoder learns both, and a dense score orders what
was generated together with all cold items, those without a train event. With the state s after a history, the next item
y with codes y_1 ... y_L, its content vector c_y and the temperature t:

    L_codes = - sum_l log p(y_l | s, y_1 ... y_l-1)
    L_dense = - log softmax_i( cos(P s, c_i) / t )[y]          over the warm items i, or over the targets of a batch
    score(i) = cos(P s, c_i)                                   for i generated or cold

An item goes in as the sum of its codes' embeddings and its projected content. The authors take a T5; here encoder and
decoder are the causal form of `encoder_decoder`, which learns from every position at once and whose input at a position
is that position's item, never the target. Cold items are no negatives: a model that is told after every history that
they are wrong would learn to rank them last. Content vectors are whitened, so that cosines tell them apart.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.data.sequences import Sequences
from modalrec.data.trie import Trie
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, TopK
from modalrec.recommenders._content import Content
from modalrec.recommenders._encoder_decoder_beam import search, seen
from modalrec.recommenders._encoder_decoder_causal import CausalForm
from modalrec.recommenders._transformer import TransformerConfig
from modalrec.training.batches import Batches
from modalrec.training.softmax import catalogue_cross_entropy
from modalrec.training.windows import PAD, Windows

# B histories, T positions, P positions that have a target, N items, L levels, D width, V width of a content vector,
# R its whitened directions, G generated items, C cold items, k length of the lists.


class HybridConfig(TransformerConfig):
    """Configuration of `Hybrid`.

    Attributes:
        candidates: Items that are generated for a history, to be ranked with the cold ones (the paper's 20); at least
            the length of the lists asked for.
        beam_size: Beams of the search, at least `candidates`.
        temperature: Of the cosines.
        negatives: What a target's cosine is compared with: those of all warm items, or of the targets of the batch.
        dense_weight: Of the dense loss beside that of the codes.
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["hybrid"] = "hybrid"
    width: int = Field(128, ge=8)
    heads: int = Field(4, ge=1)
    candidates: int = Field(20, ge=1)
    beam_size: int = Field(50, ge=1)
    temperature: float = Field(0.07, gt=0)
    negatives: Literal["catalogue", "batch"] = "catalogue"
    dense_weight: float = Field(1.0, gt=0)
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
        # To the width of content as it is given, which no catalogue's whitening changes.
        self.project = nn.Linear(config.width, items.content.shape[1], bias=False)
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
        states_PD = self.form.states(inputs_BT)[real_BT]
        codes_PL = self.form.codes.codes_NL[targets_P]  # type: ignore[index]
        logits = self.form.levels(states_PD, codes_PL)
        codes = torch.stack([F.cross_entropy(of, codes_PL[:, level]) for level, of in enumerate(logits)]).sum()
        among = targets_P.unique() if self.config.negatives == "batch" else (~self.cold_N).nonzero()[:, 0]
        places_P = torch.searchsorted(among, targets_P)
        dense = catalogue_cross_entropy(
            self.queries(states_PD), self.content_of(among), places_P, 1 / self.config.temperature
        )
        return {"loss": codes + self.config.dense_weight * dense, "codes": codes, "dense": dense}

    def queries(self, states_PD: Tensor) -> Tensor:
        """What states look for, [P, R], of length one."""
        return F.normalize(self.project(states_PD) @ self._content.directions, dim=-1)

    def content_of(self, items: Tensor) -> Tensor:
        """Whitened content vectors [..., R] of items, of length one; zero where an item has none."""
        return F.normalize(self._content.vectors[items], dim=-1)

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """The best by cosine among what the beam search finds and all cold items; see `Recommender.recommend`.

        Raises:
            ConfigError: `k` is larger than `candidates`.
        """
        if k > self.config.candidates:
            raise ConfigError(f"hybrid.candidates: {self.config.candidates} of them cannot give lists of {k}")
        states_BD, trie = self.form.encode(histories), self._own_trie()
        seen_BS = seen(trie, histories) if mask_seen else None
        generated = search(self.form, states_BD, trie, self.config.candidates, self.config.beam_size, seen_BS)
        queries_BR = self.queries(states_BD)
        items_BG = torch.from_numpy(generated.items).to(queries_BR.device)
        again_BG = (items_BG < 0) | self.cold_N[items_BG]  # what is cold comes with the others that are
        scores_BG = torch.einsum("br,bgr->bg", queries_BR, self.content_of(items_BG)).masked_fill(again_BG, -torch.inf)
        cold_C = self.cold_N.nonzero()[:, 0]
        scores_BC = queries_BR @ self.content_of(cold_C).T
        if mask_seen:
            for row, history in enumerate(histories):
                own = torch.tensor(history, dtype=torch.int64, device=cold_C.device)
                places = torch.searchsorted(cold_C, own[self.cold_N[own]])
                scores_BC[row, places] = -torch.inf
        best_Bk, places_Bk = scores_BC.topk(min(k, len(cold_C)), dim=1)
        scores = torch.cat([scores_BG, best_Bk], dim=1)
        return TopK.best_of(scores, k, torch.cat([items_BG, cold_C[places_Bk]], dim=1))

    @property
    def _content(self) -> Content:
        assert self.form.codes.content is not None  # noqa: S101 (checked on construction)
        return self.form.codes.content

    def _own_trie(self) -> Trie:
        if self._trie is None or self._trie.order.device != self.cold_N.device:
            assert self.items.codes is not None  # noqa: S101 (checked on construction)
            self._trie = Trie.build(self.items.codes, self.cold_N.device)
        return self._trie
