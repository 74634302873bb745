"""DLRM with modalities: embeddings of ids and features, numbers of the moment, projected texts and pictures, crossed.

DLRM (Naumov et al. 2019, arXiv 1906.00091) with one more vector for each modality: what a frozen encoder gives, cached
once an item, through a projector. All vectors meet in pairwise dot products; the head predicts a rating on its own
scale, with biases of user and item, or a click.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field as Setting
from pydantic import model_validator
from torch import Tensor, nn

from modalrec.data.features import Field
from modalrec.data.moments import of_owner
from modalrec.errors import ConfigError
from modalrec.recommenders._dlrm_parts import Concat, Crosses, Dots, Modality, layers, start_table
from modalrec.recommenders._fields import LARGE, Fields
from modalrec.recommenders._row_space import ID, RowSpace
from modalrec.recommenders._rows import RowModel, RowModelConfig
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import Batch
from modalrec.training.spread import SpreadTable
from modalrec.training.tables import TableSteps
from modalrec.training.team import ALONE, Team

# B rows, U distinct items, D width, F vectors of a row.

MODALITIES = ("text", "image")
CONTENT = "content"
"""Among what a model goes without: all modalities."""
OWNERS = ("user", "item")


class DLRMConfig(RowModelConfig):
    """Configuration of `DLRM`.

    Attributes:
        head: A rating on the scale of the data, or a click.
        interaction: Dot products of all pairs; all vectors side by side, as in a plain network (`concat`); or layers of
            crossed features (`dcn_v2`).
        width: Length of every vector.
        bottom: Widths of the hidden layers over the numbers of a row; one of `width` follows.
        top: Widths of the hidden layers over what the interaction gives.
        projector: Widths of hidden layers of the projectors of text and picture; a linear map without any.
        dropout: After every layer of `top`.
        id_dropout: Share of users, and of items, that a training batch takes for unknown, with what is known of them at
            the moment: so features and content learn to stand for them, and the unknown one is trained (Volkovs et al.
            2017, DropoutNet).
        penalty: Weight of half the squares of a row's embeddings and biases in its loss.
        crosses: Layers of dcn_v2.
        cross_rank: Their rank.
        table_rate: Learning rate of tables over that of layers; Adagrad wants a higher one.
        finetune_layers: Last layers of the encoders of texts and pictures that are trained, too: on the distinct items
            of a batch, over what the layers below made of each item once. By default none, and encoders stay frozen.
        finetune_rate: Learning rate of these layers over that of all others.
        user_id: A vector and a bias for every user.
        history: Always 0: no history is looked at.
        tables: As in `RowModelConfig`, for all tables, whatever their size.
        placement: Every process of a `torchrun` has all tables (`local`), or TorchRec spreads the rows of large tables
            of ids and categories over them (`torchrec`), which takes a batch a step for each process
            (`training.accumulate`); their gradients are not clipped. A single process has all tables either way.
    """

    name: Literal["dlrm"] = "dlrm"
    head: Literal["rating", "click"] = "rating"
    interaction: Literal["dot", "concat", "dcn_v2"] = "dot"
    bottom: tuple[int, ...] = (32,)
    top: tuple[int, ...] = Setting((64, 32), min_length=1)
    projector: tuple[int, ...] = ()
    dropout: float = Setting(0.2, ge=0, lt=1)
    id_dropout: float = Setting(0.1, ge=0, lt=1)
    penalty: float = Setting(0.0, ge=0)
    crosses: int = Setting(3, ge=1)
    cross_rank: int = Setting(64, ge=1)
    table_rate: float = Setting(10.0, gt=0)
    finetune_layers: int = Setting(0, ge=0)
    finetune_rate: float = Setting(0.02, gt=0)
    user_id: bool = True
    history: int = Setting(0, ge=0, le=0)
    tables: Literal["adam", "lazy_adam", "row_adagrad"] = "row_adagrad"
    placement: Literal["local", "torchrec"] = "local"

    @model_validator(mode="after")
    def _can_be_spread(self) -> Self:
        if self.placement == "torchrec" and (self.tables != "row_adagrad" or self.embedding_decay):
            raise ValueError("placement: torchrec updates rows by tables=row_adagrad with embedding_decay=0; set both")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the model looks at."""
        return tuple(name for name in MODALITIES if not {name, CONTENT} & {*self.without})


class DLRM(RowModel):
    """Embedding tables, a bottom network, projected modalities, their interaction and a top network."""

    title = "DLRM"
    Config = DLRMConfig
    ranks = True
    ablations = ("content",)
    row_defaults: ClassVar[dict[str, Any]] = {"popularity": False, "moments": True}
    config: DLRMConfig

    def __init__(self, config: DLRMConfig, items: RowSpace) -> None:
        super().__init__(config, items)
        self.task = config.head
        width = config.width
        kept = [one for one in self._fields() if one.name == ID]
        self.biases = nn.ModuleDict({one.owner: nn.Embedding(one.size, 1) for one in kept})
        for bias in self.biases.values():
            nn.init.zeros_(bias.weight)  # type: ignore[arg-type]
        for table in self.fields.tables.values():
            start_table(table)  # type: ignore[arg-type]
        seen_N = torch.from_numpy(items.features.values[f"item_{ID}"] > 0)  # type: ignore[operator]
        self.modalities = nn.ModuleDict(
            {name: Modality(getattr(items, name), width, config.projector, seen_N) for name in config.modalities}
        )
        has_bottom = bool(self.fields.number_fields)
        if has_bottom:
            self.bottom = layers(2 * len(self.fields.number_fields), (*config.bottom, width))
        vectors = len(self._fields()) + len(self.modalities) + has_bottom
        self.interaction = _interaction(config, vectors, has_bottom)
        self.top = layers(self.interaction.outputs, config.top, config.dropout)
        # Biases and the mean stand for the constant: the last layer starts without one.
        self.last = nn.Linear(config.top[-1], 1)
        nn.init.normal_(self.last.weight, std=(2 / (config.top[-1] + 1)) ** 0.5)
        nn.init.zeros_(self.last.bias)

    def build_fields(self, config: RowModelConfig, items: RowSpace) -> Fields:
        """The vectors of all fields but numbers; content comes as vectors, not as codes."""
        left_out = {*config.without, "codes"} - {*MODALITIES, CONTENT}
        return Fields(config.model_copy(update={"without": tuple(left_out)}), items, numbers_apart=True)

    @classmethod
    def edges(cls, config: Any) -> frozenset[str]:
        """The vectors of the modalities, where they are not left out."""
        return frozenset(f"{name}_embeddings" for name in config.modalities)

    @property
    def tuned(self) -> Mapping[str, nn.Module]:
        """All modalities where `finetune_layers` is set; see `RowModel.tuned`."""
        return dict(self.modalities.items()) if self.config.finetune_layers else {}

    @classmethod
    def monitored_by(cls, settings: Mapping[str, Any]) -> str:
        """The error of ratings, or the AUC of clicks."""
        return "auc" if settings.get("head") == "click" else "neg_rmse"

    def forward(self, batch: Batch) -> Tensor:
        """[B] ratings, or log-odds of a click."""
        return self._predicted(batch)[0]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The squared error, or the log loss, and the penalty."""
        predicted_B, squares_B = self._predicted(batch)
        error = self._error(predicted_B, batch)
        if not self.config.penalty:
            return {"loss": error}
        return {"loss": error + self.config.penalty / 2 * squares_B.mean(), "error": error}

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Tensor:
        """[B] ratings within the range of those that training has seen, or probabilities of a click."""
        predicted_B = super().predict(batch)
        return predicted_B.clamp(*self.items.scales["rating_range"]) if self.task == "rating" else predicted_B

    def spread(self, config: TrainingConfig, team: Team) -> None:
        """Spreads large tables of ids and categories where `placement` says so; see `HasSpreadTables`.

        Raises:
            ConfigError: `training.accumulate` is not the number of processes, or TorchRec is not installed.
        """
        if self.config.placement == "local" or team.size == 1:
            return
        if config.accumulate != team.size:
            raise ConfigError(
                f"training.accumulate: {config.accumulate} batches a step, and placement=torchrec takes one of each of "
                f"the {team.size} processes; set it to {team.size}"
            )
        tables, bags = self.fields.tables, {self.fields.table(one) for one in self._fields() if one.kind == "bag"}
        for key, table in tables.items():
            if isinstance(table, nn.Embedding) and len(table.weight) > LARGE and table not in bags:
                tables[key] = SpreadTable(table, team)

    def steps(self, config: TrainingConfig, seed: int, team: Team = ALONE) -> TableSteps:
        """AdamW for layers, and tables row by row."""
        tables = self._tables()
        found = self.config
        for table in tables:
            table.sparse = found.tables == "lazy_adam" or (found.tables == "row_adagrad" and len(table.weight) > LARGE)
        encoders = [one.encoder for one in self.modalities.values() if isinstance(one, Modality) and one.encoder]
        rates = {id(one): found.finetune_rate for one in nn.ModuleList(encoders).parameters()}
        scale, decay = found.table_rate, found.embedding_decay
        return TableSteps(self, tables, config, found.tables, decay, seed, team, scale=scale, whole=True, rates=rates)

    def settle(self) -> None:
        """Projects the vectors of every item, so that the model serves without them."""
        for modality in self.modalities.values():
            modality.settle()  # type: ignore[operator]

    def _fields(self) -> list[Field]:
        return [*self.fields.row_fields, *self.fields.item_fields]

    def _tables(self) -> list[nn.Embedding]:
        found = (*self.fields.tables.values(), *self.biases.values())
        return [table for table in found if isinstance(table, nn.Embedding)]

    def _predicted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Predictions [B], and the squares of their embeddings and biases [B]."""
        batch = self._with_ids(batch)
        users, items, width = batch["user"], batch["item"], self.config.width
        rows_BFD = self.fields.rows(batch).view(len(users), -1, width)
        items_UFD = self.fields.items(batch).view(len(items), -1, width)
        content = [modality(items)[:, None] for modality in self.modalities.values()]
        of_target_BFD = torch.cat([items_UFD, *content], 1)[batch["target"]]
        parts = [rows_BFD, of_target_BFD]
        if self.fields.number_fields:
            parts.insert(0, self.bottom(self.fields.numbers(batch))[:, None])
        crossed_BX = self.interaction(torch.cat(parts, 1))
        predicted_B = self.last(self.top(crossed_BX))[:, 0] + self._mean()
        squares_B = rows_BFD.square().sum((1, 2)) + items_UFD.square().sum((1, 2))[batch["target"]]
        for owner, bias in self.biases.items():
            ids = batch[f"{owner}_{ID}"]
            bias_B = bias(ids[batch["target"]] if owner == "item" else ids)[:, 0]
            predicted_B, squares_B = predicted_B + bias_B, squares_B + bias_B.square()
        return predicted_B, squares_B

    def _with_ids(self, batch: Batch) -> Batch:
        """The numbers of users and items among those that training knows; some become unknown in training.

        What is known of them at the moment of the row goes too: a new user has rated nothing before, however many rows
        of theirs are asked about.
        """
        found = {**batch}
        for owner in OWNERS:
            if owner not in self.biases:
                continue
            ids = self.fields.get_buffer(f"{owner}_{ID}_values")[batch[owner]]
            if self.training and self.config.id_dropout:
                kept = torch.rand(len(ids), device=ids.device) >= self.config.id_dropout
                ids = ids * kept
                kept_B = kept[batch["target"]] if owner == "item" else kept
                found |= {key: batch[key] * kept_B for key in of_owner(owner) if key in batch}
            found[f"{owner}_{ID}"] = ids
        return found

    def _mean(self) -> float:
        """The mean rating of training, or the log-odds of its clicks."""
        if self.task == "rating":
            return self.items.scales["rating"][0]
        share = min(max(self.items.scales["label"][0], 1e-4), 1 - 1e-4)
        return float(torch.logit(torch.tensor(share)))


def _interaction(config: DLRMConfig, vectors: int, has_bottom: bool) -> Dots | Concat | Crosses:
    if config.interaction == "dot":
        return Dots(vectors, config.width, has_bottom)
    if config.interaction == "concat":
        return Concat(vectors, config.width)
    return Crosses(vectors, config.width, config.crosses, config.cross_rank)
