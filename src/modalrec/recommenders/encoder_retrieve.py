"""Retrieval by many short codes at once: one causal encoder, one head a level, every item scored exactly.

RPG (Hou et al. 2025, arXiv 2506.05781): an item goes in as the mean of its codes' embeddings e, head l of the state s
after a history predicts code l of the next item, independent of the other codes, and the temperature t scales cosines:

    h_l(s) = s + silu(W_l s + b_l)
    log p_l(c) = log softmax_c( cos(h_l(s), e_lc) / t )          over the codes c of level l alone
    score(item) = sum_l log p_l(code_l(item))                    the log-likelihood of its codes

Training minimises the mean of -log p_l over levels and positions: what the score sums, with the same softmax. The input
at a position is that position's item and the target is the next one, so no target code is in the input. The authors
search a graph of similar items and find some of the best; here all items are scored, which needs no beam and no graph.

A history's scores are look-ups in L tables of V floats, 32 KB at 32 x 256, and a catalogue is N x L bytes of codes:
nothing is of size N x D. At 10 million items and 32 levels of 256 the codes are 320 MB, and the tables of 256 histories
8 MB, which the second-level cache of a large GPU holds (40 MB on an A100). Each history reads 320 million table
entries, 1.28 GB from that cache, a third of a millisecond at 4 TB/s; a tile of scores is 65,536 x 64 floats, 16 MB.
That is arithmetic: no GPU was at hand. `tests/benchmarks/retrieval.py` measures a million items on one core.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.data.sequences import Sequences
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, Scorer, TopK
from modalrec.recommenders._content import Content
from modalrec.recommenders._encoder_retrieve_kernels import LANES
from modalrec.recommenders._encoder_retrieve_sums import Codes, tables
from modalrec.recommenders._transformer import CausalTransformer, TransformerConfig, latest
from modalrec.training.batches import Batches
from modalrec.training.softmax import catalogue_cross_entropy
from modalrec.training.windows import PAD, Windows

# B histories, T positions, P positions that have a target, N items, S items of a tile, L levels, V codes of a level,
# K codes of all levels, D width, G histories of a group, k length of the lists.

STD = 0.02
"""Deviation of the codes' first embeddings."""


class EncoderRetrieveConfig(TransformerConfig):
    """Configuration of `EncoderRetrieve`.

    Attributes:
        pooling: What the embeddings of an item's codes become: their mean (the paper's) or their sum.
        content: Add the items' projected vectors to it.
        temperature: Of the cosines (the paper's range is 0.03 to 0.07).
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["encoder_retrieve"] = "encoder_retrieve"
    pooling: Literal["mean", "sum"] = "mean"
    content: Literal["none", "sum"] = "none"
    temperature: float = Field(0.07, gt=0)
    drop_items: float = Field(0.3, ge=0, lt=1)


class Prepared(NamedTuple):
    """log p of every code after each history, as `tables` lays it out, and how many histories they are."""

    tables: list[Tensor]
    size: int


class EncoderRetrieve(Recommender, Scorer):
    """See the module's text."""

    Config = EncoderRetrieveConfig
    needs = frozenset({"codes"})
    exact = True
    config: EncoderRetrieveConfig

    def __init__(self, config: EncoderRetrieveConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        if items.codes is None:
            raise ConfigError("encoder_retrieve: needs semantic IDs; give --codes, the output of `quantize`")
        if config.content != "none" and items.content is None:
            raise ConfigError(f"recommender.content={config.content}: needs the items' vectors; give --embeddings")
        self.sizes = list(items.codebook_sizes)
        self.codes = Codes(items.codes, self.sizes)
        self.table = nn.Embedding(sum(self.sizes), config.width)
        nn.init.normal_(self.table.weight, std=STD)
        self.content: Content | None = None
        if config.content != "none" and items.content is not None:
            self.content = Content(items.content, config.width, std=STD)
        self.encoder = CausalTransformer(config)
        self.heads = nn.ModuleList([Head(config.width) for _ in self.sizes])

    @classmethod
    def edges(cls, config: EncoderRetrieveConfig) -> frozenset[str]:
        """The codes, and the items' vectors where content is used."""
        return cls.needs if config.content == "none" else cls.needs | {"embeddings"}

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items; see `Recommender.batches`."""
        drop = self.config.drop_items if augment else 0.0
        return Windows(train, self.config.history + 1, batch_size, seed, random_offset=augment, drop_items=drop)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """The mean of -log p_l over levels and over all positions of [B, T + 1] items, padded at the end: nats a code.

        No level's logits are held: see `catalogue_cross_entropy`.
        """
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]
        real_BT = targets_BT != PAD
        states_PD = self.encode(inputs_BT)[real_BT]
        codes_PL = self.codes.codes_NL[targets_BT[real_BT]].long()
        losses = [
            catalogue_cross_entropy(heads_PD, codes_VD, codes_PL[:, level], 1 / self.config.temperature)
            for level, (heads_PD, codes_VD) in enumerate(self.compared(states_PD))
        ]
        return {"loss": torch.stack(losses).mean()}

    def encode(self, items_BT: Tensor) -> Tensor:
        """States [B, T, D] of padded histories; a state depends on the items up to its own."""
        items_BT = items_BT.clamp(min=0)
        tokens_PL = self.codes(items_BT.flatten())
        x_BTD = F.embedding_bag(tokens_PL, self.table.weight, mode=self.config.pooling).view(*items_BT.shape, -1)
        states_BTD: Tensor = self.encoder(x_BTD if self.content is None else x_BTD + self.content(items_BT))
        return states_BTD

    def compared(self, states_PD: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For every level, what the head makes of states [P, D] and the codes' embeddings [V, D], of length one."""
        codes_KD = F.normalize(self.table.weight, dim=-1)
        for head, codes_VD in zip(self.heads, codes_KD.split(self.sizes), strict=True):
            yield F.normalize(head(states_PD), dim=-1), codes_VD

    @torch.inference_mode()
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Prepared:
        """The tables that every item's score is looked up in."""
        items_BT, last_B = latest(histories, self.config.history, self.codes.codes_NL.device)
        states_BD = self.encode(items_BT)[torch.arange(len(histories), device=last_B.device), last_B]
        logits = (heads_BD @ codes_VD.T / self.config.temperature for heads_BD, codes_VD in self.compared(states_BD))
        logp_BK = torch.cat([logits_BV.log_softmax(-1) for logits_BV in logits], dim=1)
        return Prepared(tables(logp_BK), len(histories))

    def score(self, prepared: Prepared, begin: int, end: int) -> NDArray[np.float32]:
        """Scores [B, end - begin]; see `Scorer.score`."""
        out_TB = torch.empty(end - begin, prepared.size, dtype=prepared.tables[0].dtype)
        scores_BT: NDArray[np.float32] = out_TB.numpy().T
        self.score_into(prepared, begin, end, scores_BT)
        return scores_BT

    @torch.inference_mode()
    def score_into(self, prepared: Prepared, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """See `Scorer.score_into`."""
        out_TB = torch.from_numpy(out.T)
        for table_KG, out_TG in zip(prepared.tables, out_TB.split(LANES, dim=1), strict=True):
            self.codes.sum_into(table_KG, begin, end, out_TG)

    @torch.inference_mode()
    def score_of(self, prepared: Prepared, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Scorer.score_of`."""
        tokens_BL = self.codes(torch.as_tensor(items, device=self.codes.codes_NL.device).long()).long()
        groups = zip(prepared.tables, tokens_BL.split(LANES), strict=True)
        scores_B = torch.cat([table_KG.gather(0, tokens_GL.T).sum(0) for table_KG, tokens_GL in groups])
        found: NDArray[np.float32] = scores_B.cpu().numpy()
        return found

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """The items whose codes are likeliest, of equal ones the first; see `Recommender.recommend`."""
        prepared = self.prepare(histories)
        lists = [
            self.codes.best(table_KG, histories[LANES * place : LANES * (place + 1)] if mask_seen else (), k)
            for place, table_KG in enumerate(prepared.tables)
        ]
        items, scores = (np.concatenate(parts)[: prepared.size] for parts in zip(*lists, strict=True))
        return TopK(items, scores)


class Head(nn.Module):
    """What one level sees of a state: at first the state itself and a shift, as published."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        nn.init.zeros_(self.linear.weight)

    def forward(self, state_D: Tensor) -> Tensor:
        """States [..., D] to states."""
        return state_D + F.silu(self.linear(state_D))
