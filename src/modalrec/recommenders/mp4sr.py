"""MP4SR: a sequence of texts and a sequence of pictures, pre-trained to agree, then fine-tuned with item IDs.

Zhang, Zhou, Zeng and Shen 2023 (arXiv 2303.11879). An item is a few vectors of its text and a few of its picture. Each
modality is pooled by attention and brought to the model's width by a mixture of experts; one transformer reads the two
sequences. Pre-training predicts the next item in either modality from sequences whose modalities change places at
random, and holds the two sequences of a user together. Fine-tuning adds the items' IDs, and scores the catalogue by

    score(i) = cos(s_text, text_i + id_i) + cos(s_image, image_i + id_i), over a temperature.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from modalrec.data.sequences import Sequences
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, ScoringRecommender
from modalrec.recommenders._mp4sr_batches import Mixed, Prefixes
from modalrec.recommenders._mp4sr_items import ROWS, STD, Modality
from modalrec.recommenders._mp4sr_losses import (
    cross_modal,
    next_item,
    published_cross_modal,
    published_next_item,
    same_next,
)
from modalrec.recommenders._transformer import CausalTransformer, TransformerConfig, latest
from modalrec.training.batches import Batches
from modalrec.training.softmax import catalogue_cross_entropy
from modalrec.training.windows import PAD, Windows

# B histories, T positions, P positions of a batch that have a target, N items, U distinct items of a batch, D width,
# M modalities (the sequences of a user), E = M D.


class MP4SRConfig(TransformerConfig):
    """Configuration of `MP4SR`.

    Attributes:
        modalities: What items are made of, besides their IDs; `none` leaves the IDs alone, and no pre-training.
        ids: Add a vector of the item's ID in fine-tuning, on both sides.
        norm: `post`, as published.
        experts: Of each modality's adaptor; 0 has one linear map instead.
        adaptor_dropout: In the adaptors.
        attention_width: Of the pooling's hidden layer.
        whiten: Give every direction of the pooled vectors the same variance first, since encoders' vectors crowd.
        temperature: Of the cosines.
        nip_weight: Of the loss of the next item.
        cmcl_weight: Of the contrast between a user's two sequences; the paper's lambda.
        proj: In pre-training, compare sequences and items through one linear head a modality.
        mix_up: Each batch exchanges the two modalities at a share of the places, drawn up to this one.
        drop_items: In pre-training, each batch drops items with a probability drawn up to this one. As published, the
            first item and the target stay; else any may go, since a window is learnt from at every place, and two stay.
        frozen_pooling: Pool once, by random weights, as the published code does in effect: it writes pooled vectors
            into the data of a parameter, so that no gradient reaches the pooling. Cheaper, since a batch pools nothing.
        published: Compute what the published code does where it differs from this one's defaults: pooling is frozen;
            its softmax gives weight to the zeros that fill short lists; masked false negatives count as cosines of 0
            where they should not count; the second direction of the contrast takes the first one's negatives; and each
            prefix of a history is an example of its own that is learnt from at its end alone, which costs several
            times as much for the same targets. The transformer is that of `sasrec` here all the same: no weights of
            attention are dropped, and its last states are normalised once more.
    """

    name: Literal["mp4sr"] = "mp4sr"
    modalities: Literal["both", "text", "image", "none"] = "both"
    ids: bool = True
    norm: Literal["pre", "post"] = "post"
    experts: int = Field(8, ge=0)
    adaptor_dropout: float = Field(0.2, ge=0, lt=1)
    attention_width: int = Field(64, ge=1)
    whiten: bool = True
    temperature: float = Field(0.07, gt=0)
    nip_weight: float = Field(1.0, ge=0)
    cmcl_weight: float = Field(0.01, ge=0)
    proj: bool = False
    mix_up: float = Field(0.5, ge=0, le=1)
    drop_items: float = Field(0.2, ge=0, lt=1)
    frozen_pooling: bool = False
    published: bool = False

    @model_validator(mode="after")
    def _items_are_something(self) -> "MP4SRConfig":
        if self.modalities == "none" and not self.ids:
            raise ValueError("modalities=none and ids=false leave nothing of an item; give one of them")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities."""
        return {"both": ("text", "image"), "none": ()}.get(self.modalities, (self.modalities,))


class Prepared(NamedTuple):
    """The directions of the sequences' states [B, M D] over the temperature, and of every item's vectors [N, M D]."""

    states_BE: NDArray[np.float32]
    items_NE: NDArray[np.float32]


class MP4SR(ScoringRecommender):
    """One transformer over two sequences: the texts of a history's items, and their pictures.

    The folder of a trained model holds every item's adapted vectors, [N, D] a modality, in place of what they were made
    from: it serves alone, and learns on where the vectors are given again.
    """

    title = "MP4SR"
    Config = MP4SRConfig
    item_tensors = frozenset({"ids.weight", "known", "adapted.text", "adapted.image"})
    config: MP4SRConfig
    known: Tensor

    def __init__(self, config: MP4SRConfig, items: ItemSpace) -> None:
        super().__init__(config, items)
        lists = {name: getattr(items, name) for name in config.names}
        missing = [name for name, found in lists.items() if found is None]
        if missing:
            edges = " and ".join(f"--{name}_embeddings" for name in missing)
            raise ConfigError(f"recommender.modalities={config.modalities}: give {edges}")
        self.modalities = nn.ModuleDict(
            {
                name: Modality(
                    found,
                    config.width,
                    attention=config.attention_width,
                    experts=config.experts,
                    dropout=config.adaptor_dropout,
                    whiten=config.whiten,
                    frozen=config.frozen_pooling or config.published,
                    padded=config.published,
                )
                for name, found in lists.items()
            }
        )
        self.adapted = nn.Module()
        for name in config.names:
            self.adapted.register_buffer(name, torch.zeros(len(items), config.width))
        self.register_buffer("known", torch.zeros(len(items)))
        self.ids: nn.Embedding | None = None
        if config.ids:
            self.ids = nn.Embedding(len(items), config.width)
            nn.init.normal_(self.ids.weight, std=STD)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(config.width, config.width) for name in config.names if config.proj}
        )
        self.encoder = CausalTransformer(config)
        self.has_vectors = any(len(found.members) for found in lists.values())
        self._settled = False
        self._served: tuple[list[Tensor], NDArray[np.float32]] | None = None

    @classmethod
    def edges(cls, config: MP4SRConfig) -> frozenset[str]:
        """The vectors of the modalities."""
        return frozenset(f"{name}_embeddings" for name in config.names)

    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """Windows of `history + 1` items, or prefixes of histories; see `Recommender.batches`.

        In fine-tuning, items with a train event get an ID's vector; others get none, since theirs has learnt nothing.
        """
        if not augment:
            self.known.copy_(torch.from_numpy(np.bincount(train.items, minlength=len(self.items)) > 0))
        drop, length = self.config.drop_items if augment else 0.0, self.config.history + 1
        batches: Batches
        if self.config.published:
            batches = Prefixes(train, length, batch_size, seed, drop)
        else:
            batches = Windows(train, length, batch_size, seed, random_offset=augment, drop_items=drop)
        return Mixed(batches, self.config.mix_up, seed) if augment else batches

    def loss(self, batch: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of pre-training for `Mixed` batches, else the catalogue's cross-entropy at every position.

        Raises:
            ConfigError: There is nothing to learn from: no modality, or a model that was loaded without its vectors.
        """
        if self.config.names and not self.has_vectors:
            raise ConfigError("recommender mp4sr: no item has a vector to learn from; embed texts or pictures first")
        return self._pretrain(**batch) if isinstance(batch, dict) else self._finetune(batch)

    def _pretrain(self, items: Tensor, exchanged: Tensor) -> dict[str, Tensor]:
        """Prediction of the next item by modality, and the contrast between a user's two sequences."""
        if not self.config.names:
            raise ConfigError("recommender.modalities=none: IDs are not pre-trained; set pretrain.training.epochs=0")
        inputs_BT, targets_BT = items[:, :-1], items[:, 1:]
        distinct_U, places = items.clamp(min=0).unique(return_inverse=True)
        vectors_MUD = self._adapt(distinct_U)
        given = [vectors_UD[places[:, :-1]] for vectors_UD in vectors_MUD]
        if len(given) == 2:
            there_BT1 = exchanged[..., None]
            given = [torch.where(there_BT1, one, other) for one, other in (given[::-1], given)]
        states = self._encode(inputs_BT, given)
        views = [[head(states_BTD) for states_BTD in states] for head in self.heads.values()]
        learnt_BT, last_BT = self._learnt(targets_BT), _last(targets_BT)
        targets_P = places[:, 1:][learnt_BT]
        nip = self._next_item(views or [[one] for one in states], learnt_BT, vectors_MUD, targets_P)
        pairs = (views or [states]) if len(states) == 2 else []
        contrast, same_BB = (
            published_cross_modal if self.config.published else cross_modal,
            same_next(targets_BT[last_BT]),
        )
        cmcl = nip.new_zeros(())
        for pair in pairs:
            first_BD, second_BD = (F.normalize(states_BTD[last_BT], dim=-1) for states_BTD in pair)
            cmcl = cmcl + contrast(first_BD, second_BD, same_BB, self.config.temperature)
        return {"loss": self.config.nip_weight * nip + self.config.cmcl_weight * cmcl, "nip": nip, "cmcl": cmcl}

    def _next_item(
        self, views: list[list[Tensor]], learnt_BT: Tensor, vectors_MUD: list[Tensor], targets_P: Tensor
    ) -> Tensor:
        """The sum over modalities of the loss of the next item, from what is compared with each."""
        wanted_U, own_P = targets_P.unique(return_inverse=True)
        total = vectors_MUD[0].new_zeros(())
        for view, vectors_UD in zip(views, vectors_MUD, strict=True):
            compared = [F.normalize(states_BTD[learnt_BT], dim=-1) for states_BTD in view]
            if self.config.published:
                items_PD, same_PP = F.normalize(vectors_UD[targets_P], dim=-1), same_next(targets_P)
                total = total + published_next_item(compared, items_PD, same_PP, self.config.temperature)
            else:
                items_UD = F.normalize(vectors_UD[wanted_U], dim=-1)
                total = total + next_item(compared, items_UD, own_P, self.config.temperature)
        return total

    def _finetune(self, items: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the next item over the whole catalogue, by the sum of the cosines."""
        inputs_BT, targets_BT = items[:, :-1], items[:, 1:]
        learnt_BT = self._learnt(targets_BT)
        vectors_MND = self._with_ids(self._adapt_all(items.device))
        states_PE = _directions([states_BTD[learnt_BT] for states_BTD in self._after(inputs_BT, vectors_MND)])
        scale = 1 / self.config.temperature
        return {
            "loss": catalogue_cross_entropy(states_PE, _directions(vectors_MND), targets_BT[learnt_BT], scale),
        }

    def _adapt_all(self, device: torch.device) -> list[Tensor]:
        """Vectors [N, D] of the whole catalogue, some at a time; the gradient makes their inputs again."""
        parts = torch.arange(len(self.items), device=device).split(ROWS)
        if len(parts) == 1:
            return self._adapt(parts[0])
        found = [checkpoint(self._adapt, some, use_reentrant=False) for some in parts]
        return [torch.cat(vectors) for vectors in zip(*found, strict=True)]

    def _adapt(self, items_U: Tensor) -> list[Tensor]:
        """Vectors [U, D] of items in each modality; where an item lacks one, the other stands in for it."""
        found = [modality(items_U) for modality in self.modalities.values()]
        if len(found) == 2:
            (first_UD, has_first_U1), (second_UD, has_second_U1) = found
            return [first_UD + second_UD * ~has_first_U1, second_UD + first_UD * ~has_second_U1]
        if not found:
            return [self.known.new_zeros(len(items_U), self.config.width)]
        return [found[0][0]]

    def _with_ids(self, vectors_MND: list[Tensor]) -> list[Tensor]:
        if self.ids is None:
            return vectors_MND
        ids_ND = self.ids.weight * self.known[:, None]
        return [vectors_ND + ids_ND for vectors_ND in vectors_MND]

    def _after(self, inputs_BT: Tensor, vectors_MND: list[Tensor]) -> list[Tensor]:
        return self._encode(inputs_BT, [vectors_ND[inputs_BT.clamp(min=0)] for vectors_ND in vectors_MND])

    def _encode(self, inputs_BT: Tensor, given: list[Tensor]) -> list[Tensor]:
        """States [B, T, D] of each sequence; all of them go through the transformer together."""
        real_BT1 = (inputs_BT != PAD)[..., None]
        return list(self.encoder(torch.cat([vectors_BTD * real_BT1 for vectors_BTD in given])).chunk(len(given)))

    def _learnt(self, targets_BT: Tensor) -> Tensor:
        """Which positions are learnt from: those with a target, or the last of them."""
        return _last(targets_BT) if self.config.published else targets_BT != PAD

    @torch.no_grad()
    def settle(self) -> None:
        """Keeps every item's adapted vectors, which is what serving needs of texts and pictures."""
        if self._settled or not self.has_vectors:
            return
        device = self.known.device
        for begin in range(0, len(self.items), ROWS):
            end = min(begin + ROWS, len(self.items))
            for name, vectors_UD in zip(
                self.config.names, self._adapt(torch.arange(begin, end, device=device)), strict=True
            ):
                getattr(self.adapted, name)[begin:end] = vectors_UD
        self._settled = True

    def train(self, mode: bool = True) -> "MP4SR":
        """Forgets what was kept for serving."""
        self._served, self._settled = None, False
        return super().train(mode)

    @torch.inference_mode()
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Prepared:
        """What the scores of all items need."""
        if self._served is None:
            self.settle()
            adapted = [getattr(self.adapted, name) for name in self.config.names]
            vectors_MND = self._with_ids(adapted or [self.known.new_zeros(len(self.items), self.config.width)])
            self._served = vectors_MND, _directions(vectors_MND).cpu().numpy()
        vectors_MND, items_NE = self._served
        inputs_BT, last_B = latest(histories, self.config.history, vectors_MND[0].device)
        rows_B = torch.arange(len(histories), device=last_B.device)
        states_BE = _directions([states_BTD[rows_B, last_B] for states_BTD in self._after(inputs_BT, vectors_MND)])
        return Prepared((states_BE / self.config.temperature).cpu().numpy(), items_NE)

    def score(self, prepared: Prepared, begin: int, end: int) -> NDArray[np.float32]:
        """Scores [B, end - begin]; see `Scorer.score`."""
        scores_BN: NDArray[np.float32] = prepared.states_BE @ prepared.items_NE[begin:end].T
        return scores_BN

    def score_into(self, prepared: Prepared, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """See `Scorer.score_into`."""
        np.matmul(prepared.states_BE, prepared.items_NE[begin:end].T, out=out)

    def score_of(self, prepared: Prepared, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `Scorer.score_of`."""
        scores_B: NDArray[np.float32] = np.einsum("be,be->b", prepared.states_BE, prepared.items_NE[items])
        return scores_B


def _last(targets_BT: Tensor) -> Tensor:
    """[B, T] the last position of each row that has a target."""
    ends_B1 = (targets_BT != PAD).sum(1, keepdim=True) - 1
    return torch.arange(targets_BT.shape[1], device=targets_BT.device) == ends_B1


def _directions(vectors: list[Tensor]) -> Tensor:
    """[..., M D] vectors of length 1 side by side: their inner products are sums of cosines."""
    return torch.cat([F.normalize(vectors_D, dim=-1) for vectors_D in vectors], dim=-1)
