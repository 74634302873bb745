"""Recommenders: models trained on histories or on labelled rows. One file is one model.

A `Recommender` learns from histories and ranks the catalogue; a `RowModel` (`recommenders._rows`) learns from rows
with a label and predicts a number for each.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modalrec import plugins
from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.artifacts.files import write_json
from modalrec.config import Config, dump
from modalrec.data.sequences import Sequences
from modalrec.errors import ArtifactError
from modalrec.training.batches import Batches

BASE_KIND = "recommenders"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SCORES = 1 << 26
"""Scores that are held at a time."""
CONTENT = "item_space.content"
"""Name of the items' vectors among the weights."""


@dataclass(frozen=True)
class ItemSpace:
    """What a model knows of the catalogue; it is saved in the model's folder.

    Attributes:
        item_ids: [N] names of the items; an item's index is its place here.
        titles: [N] titles, for people.
        codes: [N, L] semantic IDs, or None for models without codes.
        codebook_sizes: [L] codes per level, the collision position last; empty without codes.
        content: [N, V] one vector an item, zero where it has none; None for models without content.
        text: The vectors of each item's text, one or several; None for models that do not tell modalities apart.
        image: The same of its picture.
    """

    item_ids: list[str]
    titles: list[str]
    codes: NDArray[np.int32] | None = None
    codebook_sizes: tuple[int, ...] = ()
    content: NDArray[np.float32] | None = None
    text: VectorLists | None = None
    image: VectorLists | None = None

    def __len__(self) -> int:
        return len(self.item_ids)

    def joined(self, more: "ItemSpace") -> "ItemSpace":
        """These items and behind them others that are described alike, by codes, content or both."""

        def both(mine: NDArray[Any] | None, theirs: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if mine is None or theirs is None else np.concatenate([mine, theirs])

        codes, content = both(self.codes, more.codes), both(self.content, more.content)
        return ItemSpace(self.item_ids + more.item_ids, self.titles + more.titles, codes, self.codebook_sizes, content)

    def write(self, folder: Path) -> dict[str, Any]:
        """Writes its tables into a model's folder and returns what `config.json` is to say; `content` goes elsewhere.

        Of vectors of texts and pictures the lengths alone: a model keeps what it makes of them among its tensors.
        """
        columns: dict[str, Any] = {"item_id": self.item_ids, "title": self.titles}
        if self.codes is not None:
            columns["semantic_id"] = list(self.codes)
        pq.write_table(pa.table(columns), folder / "items.parquet")
        return {"codebook_sizes": list(self.codebook_sizes), "vector_lengths": self.vector_lengths()}

    def vector_lengths(self) -> dict[str, int]:
        """Lengths of the vectors of texts and pictures, of those that there are."""
        lists = {"text": self.text, "image": self.image}
        return {name: found.dimension for name, found in lists.items() if found is not None}

    @classmethod
    def read(cls, folder: Path, written: Mapping[str, Any]) -> "ItemSpace":
        """Reads what `write` wrote; the caller names the errors."""
        table = pq.read_table(folder / "items.parquet")
        codes = np.stack(table["semantic_id"].to_numpy()) if "semantic_id" in table.column_names else None
        names, titles = table["item_id"].to_pylist(), table["title"].to_pylist()
        text, image = lists_left_out(len(names), written.get("vector_lengths", {}))
        return cls(names, titles, codes, tuple(written["codebook_sizes"]), None, text, image)


def lists_left_out(n_items: int, lengths: Mapping[str, int]) -> tuple[VectorLists | None, VectorLists | None]:
    """What a loaded model knows of the vectors of texts and of pictures that it was trained with: their lengths."""
    text, image = (
        VectorLists.left_out(n_items, lengths[name]) if name in lengths else None for name in ("text", "image")
    )
    return text, image


@dataclass(frozen=True)
class TopK:
    """Recommendations for a batch of histories, best first.

    Attributes:
        items: [B, k] item indices, -1 where there are fewer than k.
        scores: [B, k], -inf where there are fewer than k.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]

    @classmethod
    def best_of(
        cls,
        scores_BN: Tensor,
        k: int,
        items_BN: Tensor | None = None,
        *,
        without: Sequence[NDArray[np.int32]] = (),
    ) -> "TopK":
        """The k best by score; -inf marks what may not be recommended.

        Args:
            scores_BN: [B, N].
            k: Length of the lists.
            items_BN: [B, N] the items that the scores are of; by default the item is the column.
            without: Columns of each row that are left out, such as the items of its history; the scores are changed.
        """
        for row, columns in enumerate(without):
            scores_BN[row, torch.tensor(columns, dtype=torch.int64, device=scores_BN.device)] = -torch.inf
        best, places = scores_BN.topk(min(k, scores_BN.shape[1]), dim=1)
        items = places if items_BN is None else items_BN.gather(1, places)
        items = torch.where(best > -torch.inf, items, -1)
        missing = ((0, 0), (0, k - best.shape[1]))
        return cls(
            np.pad(items.cpu().numpy(), missing, constant_values=-1),
            np.pad(best.cpu().numpy(), missing, constant_values=-np.inf),
        )


class Model(nn.Module, ABC):
    """What all models of users and items have in common.

    Attributes:
        title: How reports write its name; by default as settings do, with blanks.
        Config: The configuration class, with `name: Literal["<module>"]`.
        Space: What it is told of the catalogue.
        needs: The edges it is built from besides the dataset: "codes", "embeddings", "text_embeddings",
            "image_embeddings".
        monitored: The metric on the validation part whose best epoch is kept, unless the settings say otherwise.
        training_defaults: Where the defaults of `TrainingConfig` do not suit it.
        item_tensors: Names in the state dict of what belongs to items: parameters with a row an item, and buffers. A
            model of another catalogue hands on all else, and of these the rows of items that it knows from the same
            raw data; buffers start fresh.
    """

    title: ClassVar[str] = ""
    Config: ClassVar[type[Config]]
    Space: ClassVar[type[ItemSpace]] = ItemSpace
    needs: ClassVar[frozenset[str]] = frozenset()
    monitored: ClassVar[str] = "ndcg_10"
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    item_tensors: ClassVar[frozenset[str]] = frozenset()
    config: Any
    items: Any

    def __init__(self, config: Any, items: Any) -> None:
        """Keeps both arguments; a model then builds its modules, from the global torch generator."""
        super().__init__()
        self.config, self.items = config, items

    @classmethod
    def edges(cls, config: Any) -> frozenset[str]:
        """The edges that a model with these settings is built from; `needs` where settings change nothing."""
        return cls.needs

    @classmethod
    def takes_new_items(cls, config: Any) -> bool:
        """Whether a model with these settings can score items that came after its training."""
        return False

    @classmethod
    def monitored_by(cls, settings: Mapping[str, Any]) -> str:
        """What a model with these settings, of which some may be missing, is monitored by."""
        return cls.monitored

    @classmethod
    def cannot(cls, config: Any, training: Any) -> str:
        """What a model with these settings cannot do of a `TrainingConfig`, and what to set; empty where it can."""
        return ""

    def settle(self) -> None:
        """Computes what serving needs besides the weights; is called before a trained model is saved."""


class Recommender(Model):
    """A model that is trained on histories and recommends after one.

    Attributes:
        exact: It is a `Scorer` too, whose scores of the whole catalogue are its natural way to rank.
    """

    exact: ClassVar[bool] = False
    items: ItemSpace

    @classmethod
    def takes_new_items(cls, config: Any) -> bool:
        """By their codes or content."""
        return bool(cls.edges(config)) and cls.edges(config) <= {"codes", "embeddings"}

    def with_items(self, items: ItemSpace) -> "Recommender":
        """The same model with more items behind its own.

        Args:
            items: All of them, its own first.
        """
        model = type(self)(self.config, items)
        n_new, state = len(items) - len(self.items), self.state_dict()
        for name in self.item_tensors & state.keys():
            state[name] = torch.cat([state[name], self.rows_of_new(name, state[name], n_new)])
        model.load_state_dict(state)
        return model.eval()

    def rows_of_new(self, name: str, rows: Tensor, n_new: int) -> Tensor:
        """What one of `item_tensors` has for items that nobody has met: by default zeros, which say nothing."""
        return rows.new_zeros((n_new, *rows.shape[1:]))

    def observe(self, train: Sequences) -> None:
        """Counts what the model keeps of the train events besides its weights; called once, before it is trained."""

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

    def score_into(self, prepared: Any, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Writes what `score` gives into `out`, [B, end - begin], column-major.

        A scorer that is one matrix product writes it there: `np.matmul(states_BD, vectors_ND[begin:end].T, out=out)`.
        """
        out[...] = self.score(prepared, begin, end)

    def score_of(self, prepared: Any, items: NDArray[np.int32]) -> NDArray[np.float32] | None:
        """One item's score for each history, [B], up to rounding; or None if that costs more than a share of `score`.

        With it the evaluator needs each tile once: `np.einsum("bd,bd->b", states_BD, vectors_ND[items])`.
        """
        return None


class ScoringRecommender(Recommender, Scorer):
    """A recommender whose scores of the whole catalogue are its natural way to rank."""

    exact = True

    @torch.inference_mode()
    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        """The items of highest score; see `Recommender.recommend`."""
        rows, device = max(1, SCORES // len(self.items)), next(self.parameters()).device
        parts = []
        for begin in range(0, len(histories), rows):
            some = histories[begin : begin + rows]
            scores_BN = torch.from_numpy(self.score(self.prepare(some), 0, len(self.items))).to(device)
            parts.append(TopK.best_of(scores_BN, k, without=some if mask_seen else ()))
        return TopK(np.concatenate([part.items for part in parts]), np.concatenate([part.scores for part in parts]))


BASE = Model


def save_recommender(folder: Path, model: Model) -> None:
    """Writes a model so that the folder alone serves it: weights, configuration, item space."""
    model.settle()
    tensors = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    if model.items.content is not None:
        tensors[CONTENT] = torch.from_numpy(model.items.content)
    save_file(tensors, folder / WEIGHTS)
    write_json(folder / CONFIG, {"recommender": dump(model.config), **model.items.write(folder)})


def load_recommender(folder: Path, device: str = "cpu") -> Any:
    """Reads what `save_recommender` wrote; nothing in the folder is executed.

    Raises:
        ArtifactError: A file is missing or does not fit the others.
    """
    try:
        written = json.loads((folder / CONFIG).read_bytes())
        config = TypeAdapter(plugins.any_config(BASE_KIND)).validate_python(written["recommender"])
        weights = load_file(folder / WEIGHTS)
        content = weights.pop(CONTENT).numpy() if CONTENT in weights else None
        items = plugins.discover(BASE_KIND)[config.name].Space.read(folder, written)
        model: Model = plugins.create(BASE_KIND, config, replace(items, content=content))
        model.load_state_dict(weights)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        ValidationError,
        SafetensorError,
        pa.ArrowException,
    ) as error:
        raise ArtifactError(
            f"{folder}: not a model of this version ({error}); run the stage that made it again"
        ) from None
    return model.to(device).eval()
