"""Recommenders: models trained on histories. One file is one model; see `Recommender`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from modalrec.config import Config
from modalrec.data.sequences import Sequences
from modalrec.training.batches import Batches


@dataclass(frozen=True)
class ItemSpace:
    """What a model knows of the catalogue; it is saved in the model's folder.

    Attributes:
        item_ids: [N] names of the items; an item's index is its place here.
        titles: [N] titles, for people.
        codes: [N, L] semantic IDs, or None for models without codes.
        codebook_sizes: [L] codes per level, the collision position last; empty without codes.
    """

    item_ids: list[str]
    titles: list[str]
    codes: NDArray[np.int32] | None = None
    codebook_sizes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.item_ids)


@dataclass(frozen=True)
class TopK:
    """Recommendations for a batch of histories, best first.

    Attributes:
        items: [B, k] item indices, -1 where there are fewer than k.
        scores: [B, k], -inf where there are fewer than k.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


class Recommender(nn.Module, ABC):
    """A model that is trained on histories and recommends after one.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        needs: The edges it is built from besides the dataset: "codes".
    """

    Config: ClassVar[type[Config]]
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def __init__(self, config: Any, items: ItemSpace) -> None:
        """Builds the modules, from the global torch generator."""

    @abstractmethod
    def batches(self, train: Sequences, batch_size: int, seed: int, augment: bool) -> Batches:
        """The training batches of an epoch; `augment` asks for the model's perturbations (pre-training)."""

    @abstractmethod
    def loss(self, batch: Any) -> dict[str, Tensor]:
        """The losses of a batch: `loss` is what is minimised, the others are shown."""

    @abstractmethod
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """The k best items after each history (oldest item first, never empty), all of them real items.

        Args:
            histories: One array of item indices per user.
            k: Length of the lists.
            mask_seen: Leave out the items of the history.
        """


class Scorer(ABC):
    """A recommender that can give every item of the catalogue a score, tile by tile (see `evaluation.ranking`)."""

    @abstractmethod
    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> Any:
        """What scoring needs of a batch of histories, computed once."""

    @abstractmethod
    def score(self, prepared: Any, begin: int, end: int) -> NDArray[np.float32]:
        """Scores [B, end - begin] of the items with these indices; the same tile always gives the same bits."""


BASE = Recommender
