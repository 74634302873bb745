"""SASRec, self-attentive sequential recommendation: the baseline that every other recommender here must answer to.

SASRec (Kang and McAuley 2018, arXiv 1808.09781) with what was learnt since: cross-entropy over the whole catalogue at
every position instead of one sampled negative (Klenitskiy and Vasilev 2023, arXiv 2309.07602), and items that are more
than an ID: their content's vector stands for them alone, or is added to the ID's. Item-KNN's scores can be added too.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.data.sequences import Sequences
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, ScoringRecommender
from modalrec.recommenders._content import Content, whitened
from modalrec.recommenders._neighbours import Neighbours
from modalrec.recommenders._transformer import CausalTransformer, TransformerConfig, latest
from modalrec.training.batches import Batches
from modalrec.training.softmax import catalogue_cross_entropy
from modalrec.training.windows import PAD, Windows

# B histories, T positions, P positions of a batch that have a target, N items, D width, S sampled items.

STD = 0.02
"""Deviation of the items' first vectors."""


class SASRecConfig(TransformerConfig):
    """Configuration of `SASRec`.

    Attributes:
        content: What stands for an item: its ID's vector (`none`), its content's (`only`), both added up (`sum`), or an
            ID's vector that starts as the leading directions of the content (`init`).
        cold_items: Items without a train event are `negatives` of every target, as usual; or no negatives and without
            an ID's vector of their own, so that `content` speaks for them.
        whiten: Give every direction of the content vectors the same variance first.
        content_dropout: On the content vectors.
        id_dropout: Share of the items whose ID's vector is left out of a sum in a step, drawn anew in each, so that
            content learns to stand for an item alone (Volkovs et al. 2017, DropoutNet).
        similarity: Scores are inner products (`dot`) or cosines over `temperature`.
        temperature: Of the cosines.
        neighbours: Weight of item-KNN's scores, over the best of them, beside the model's own.
        loss: `softmax` over the whole catalogue; `sampled_softmax` and `gbce` over the target and `n_sample` items, for
            catalogues of millions.
        n_sample: Items drawn uniformly for a batch; all its positions share them.
        calibration: t of gBCE, from 0 (plain binary cross-entropy) to 1 (no overconfidence).
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one.
    """

    name: Literal["sasrec"] = "sasrec"
    content: Literal["none", "only", "sum", "init"] = "none"
    cold_items: Literal["negatives", "content"] = "negatives"
    whiten: bool = True
    content_dropout: float = Field(0.0, ge=0, lt=1)
    id_dropout: float = Field(0.0, ge=0, lt=1)
    similarity: Literal["dot", "cosine"] = "dot"
    temperature: float = Field(0.07, gt=0)
    neighbours: float = Field(0.0, ge=0)
    loss: Literal["softmax", "sampled_softmax", "gbce"] = "softmax"
    n_sample: int = Field(256, ge=1)
    calibration: float = Field(0.75, ge=0, le=1)
    drop_items: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_what_it_goes_by(self) -> "SASRecConfig":
        if self.cold_items == "content" and self.content == "none":
            raise ValueError("cold_items=content: an ID alone knows no content; set content to sum, only or init")
        if self.id_dropout and self.content != "sum":
            raise ValueError(f"id_dropout={self.id_dropout:g}: nothing is left of an item with content={self.content}")
        return self


class Prepared(NamedTuple):
    """The state after each history [B, D], every item's vector [N, D], and weighted shares of neighbours [B, N]."""

    states_BD: NDArray[np.float32]
    items_ND: NDArray[np.float32]
    shares_BN: sparse.csc_array | None


class SASRec(ScoringRecommender):
    """A causal transformer over the history whose last state is compared with every item's vector."""

    title = "SASRec"
    Config = SASRecConfig
    item_tensors = frozenset({"ids.weight", "known_N", "neighbours.starts", "neighbours.items", "neighbours.counts"})
    config: SASRecConfig
    known_N: Tensor | None

    def __init__(self, config: SASRecConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        if config.content != "none" and items.content is None:
            raise ConfigError(f"recommender.content={config.content}: needs the items' vectors; give --embeddings")
        self.ids: nn.Embedding | None = None
        if config.content != "only":
            self.ids = nn.Embedding(len(items), config.width)
            nn.init.normal_(self.ids.weight, std=STD)
        if self.ids is not None and config.content == "init" and items.content is not None:
            leading_ND = torch.from_numpy(STD * whitened(items.content)[:, : config.width])
            self.ids.weight.data[:, : leading_ND.shape[1]] = leading_ND
        self.content: Content | None = None
        if config.content in ("only", "sum") and items.content is not None:
            self.content = Content(
                items.content, config.width, std=STD, whiten=config.whiten, dropout=config.content_dropout
            )
        self.encoder = CausalTransformer(config)
        self.neighbours = Neighbours(len(items)) if config.neighbours else None
        known_N = torch.ones(len(items), dtype=torch.bool) if config.cold_items == "content" else None
        self.register_buffer("known_N", known_N)
        self._served: tuple[Tensor, NDArray[np.float32]] | None = None

    @classmethod
    def edges(cls, config: SASRecConfig) -> frozenset[str]:
        """The items' vectors, where content is used."""
        return frozenset() if config.content == "none" else frozenset({"embeddings"})

    @classmethod
    def takes_new_items(cls, config: SASRecConfig) -> bool:
        """Where content goes on speaking for an item after training began."""
        return config.content in ("only", "sum")

    def rows_of_new(self, name: str, rows: Tensor, n_new: int) -> Tensor:
        """No vector of an ID, no train event, no neighbours."""
        if name.startswith("neighbours."):
            return rows[-1:].expand(n_new) if name == "neighbours.starts" else rows[:0]
        return super().rows_of_new(name, rows, n_new)

    def observe(self, train: Sequences) -> None:
        """Counts neighbours, and which items have a train event, where settings ask for it."""
        if self.neighbours is not None:
            self.neighbours.learn(train)
        if self.known_N is not None:
            self.known_N = torch.from_numpy(train.train_counts() > 0).to(self.known_N.device)

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items; see `Recommender.batches`."""
        drop = self.config.drop_items if augment else 0.0
        return Windows(train, self.config.history + 1, batch_size, seed, random_offset=augment, drop_items=drop)

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """The mean loss of the next item at every position of [B, T + 1] items, oldest first, padded at the end."""
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]
        real_BT = targets_BT != PAD
        items_ND = self.vectors()
        states_PD = self.normalised(self.encode(inputs_BT, items_ND)[real_BT])
        targets_P = targets_BT[real_BT]
        if self.known_N is not None:
            known = self.known_N.nonzero()[:, 0]
            items_ND, targets_P = items_ND[known], torch.searchsorted(known, targets_P)
        compared_ND, scale = self.normalised(items_ND), self.scale
        if self.config.loss == "softmax":
            return {"loss": catalogue_cross_entropy(states_PD, compared_ND, targets_P, scale)}
        sampled_S = torch.randint(len(items_ND), (self.config.n_sample,), device=targets_P.device)
        own_P = scale * (states_PD * compared_ND[targets_P]).sum(1)
        others_PS = scale * states_PD @ compared_ND[sampled_S].T
        others_PS = others_PS.masked_fill(sampled_S == targets_P[:, None], -torch.inf)
        losses = {"sampled_softmax": _sampled_softmax, "gbce": self._gbce}[self.config.loss]
        return {"loss": losses(own_P, others_PS, len(items_ND)).mean()}

    def vectors(self) -> Tensor:
        """The vector of every item, [N, D]."""
        if self.content is None:
            assert self.ids is not None  # noqa: S101 (one of the two is there)
            return self.ids.weight
        content_ND: Tensor = self.content(slice(None))
        if self.ids is None:
            return content_ND
        ids_ND = self.ids.weight
        if self.known_N is not None:
            ids_ND = ids_ND * self.known_N[:, None]
        if self.training and self.config.id_dropout:
            ids_ND = ids_ND * (torch.rand(len(ids_ND), 1, device=ids_ND.device) >= self.config.id_dropout)
        return content_ND + ids_ND

    def encode(self, items_BT: Tensor, items_ND: Tensor) -> Tensor:
        """States [B, T, D] of padded histories; a state depends on the items up to its own."""
        states_BTD: Tensor = self.encoder(F.embedding(items_BT.clamp(min=0), items_ND) * math.sqrt(self.config.width))
        return states_BTD

    def normalised(self, vectors_D: Tensor) -> Tensor:
        """What is compared: the vectors, or their directions."""
        return F.normalize(vectors_D, dim=-1) if self.config.similarity == "cosine" else vectors_D

    @property
    def scale(self) -> float:
        """Factor of the inner products."""
        return 1 / self.config.temperature if self.config.similarity == "cosine" else 1.0

    def _gbce(self, own_P: Tensor, others_PS: Tensor, n_items: int) -> Tensor:
        """Generalised binary cross-entropy [P], the mean over the items scored.

        The target's likelihood is taken to the power of beta, which undoes the overconfidence that comes from seeing
        few of the items that are no target (Petrov and Macdonald 2023, arXiv 2308.07192).
        """
        n_sample = others_PS.shape[1]
        rate = min(1.0, n_sample / max(1, n_items - 1))
        beta = rate * (self.config.calibration * (1 - 1 / rate) + 1 / rate)
        return (beta * F.softplus(-own_P) + F.softplus(others_PS).sum(1)) / (n_sample + 1)

    @torch.inference_mode()
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Prepared:
        """What the scores of all items need."""
        if self._served is None:
            items_ND = self.vectors()
            self._served = items_ND, self.normalised(items_ND).cpu().numpy()
        items_ND, compared_ND = self._served
        items_BT, last_B = latest(histories, self.config.history, items_ND.device)
        states_BD = self.encode(items_BT, items_ND)[torch.arange(len(histories), device=items_ND.device), last_B]
        return Prepared(
            (self.scale * self.normalised(states_BD)).cpu().numpy(),
            compared_ND,
            None if self.neighbours is None else self.config.neighbours * self.neighbours.shares(histories),
        )

    def score(self, prepared: Prepared, begin: int, end: int) -> NDArray[np.float32]:
        """Scores [B, end - begin]; see `Scorer.score`."""
        scores_BN: NDArray[np.float32] = prepared.states_BD @ prepared.items_ND[begin:end].T
        return scores_BN if prepared.shares_BN is None else scores_BN + prepared.shares_BN[:, begin:end].toarray()

    def score_into(self, prepared: Prepared, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """See `Scorer.score_into`."""
        np.matmul(prepared.states_BD, prepared.items_ND[begin:end].T, out=out)
        if prepared.shares_BN is not None:
            out += prepared.shares_BN[:, begin:end].toarray()

    def score_of(self, prepared: Prepared, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Scorer.score_of`."""
        scores_B: NDArray[np.float32] = np.einsum("bd,bd->b", prepared.states_BD, prepared.items_ND[items])
        if prepared.shares_BN is None:
            return scores_B
        return scores_B + prepared.shares_BN.tocsr()[np.arange(len(items)), items]

    def train(self, mode: bool = True) -> "SASRec":
        """Forgets the vectors that were kept for serving."""
        self._served = None
        return super().train(mode)


def _sampled_softmax(own_P: Tensor, others_PS: Tensor, n_items: int) -> Tensor:
    """Cross-entropy [P] with the sum over the catalogue estimated from uniform samples."""
    share = math.log((n_items - 1) / others_PS.shape[1])
    return torch.logaddexp(own_P, (others_PS + share).logsumexp(1)) - own_P
