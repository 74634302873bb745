"""Models of labelled rows: a number for a user, an item and what the user did before."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.data.rows import Rows, Task
from modalrec.recommenders import Model
from modalrec.recommenders._fields import Fields, FieldsConfig
from modalrec.recommenders._row_space import RowSpace
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import Batch, RowBatches
from modalrec.training.tables import TableSteps
from modalrec.training.team import ALONE, Team

# B rows.


class RowModelConfig(FieldsConfig):
    """What all models of rows can be told.

    Attributes:
        history: Entries of a history that are used, the latest ones.
        tables: How large embedding tables are updated: all rows at every step as Adam does (`adam`), only the rows of
            the batch (`lazy_adam`), or these by Adagrad with one number a row (`row_adagrad`).
        embedding_decay: Weight of half the squared embeddings in the loss; of the rows that a step updates.
    """

    history: int = Setting(64, ge=1)
    tables: Literal["adam", "lazy_adam", "row_adagrad"] = "lazy_adam"
    embedding_decay: float = Setting(0.0, ge=0)


class RowModel(Model):
    """A model that is trained on rows and predicts a number for each: the probability of a click, or a rating.

    Attributes:
        task: What it is trained on.
        ranks: It looks at no history and at nothing of an item's events but the moment, so that it can be asked about
            any item at any time.
        fields: The vectors of items, users and rows.
        ablations: What it can go without besides single fields, so that a recipe can say what each is worth.
        row_defaults: Where the defaults of `RowsConfig` do not suit it.
    """

    Space = RowSpace
    monitored = "auc"
    ablations: ClassVar[tuple[str, ...]] = ("popularity", "codes")
    row_defaults: ClassVar[dict[str, Any]] = {}
    training_defaults: ClassVar[dict[str, Any]] = {
        "epochs": 20,
        "batch_size": 1024,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "clip_norm": 10.0,
        "schedule": "constant",
        "patience": 2,
    }
    task: Task = "click"
    ranks: ClassVar[bool] = False
    config: Any
    items: RowSpace
    fields: Fields

    @property
    def tuned(self) -> Mapping[str, nn.Module]:
        """The modalities whose encoders' last `config.finetune_layers` are trained, too, by name."""
        return {}

    def __init__(self, config: RowModelConfig, items: RowSpace) -> None:
        super().__init__(config, items)
        self.fields = self.build_fields(config, items)

    def build_fields(self, config: RowModelConfig, items: RowSpace) -> Fields:
        """The vectors of items, users and rows."""
        return Fields(config, items)

    @classmethod
    def edges(cls, config: RowModelConfig) -> frozenset[str]:
        """The codes, where they are not left out."""
        return frozenset() if "codes" in config.without else frozenset({"codes"})

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """[B] log-odds of a click, or ratings."""

    def batches(self, rows: Rows, places: NDArray[np.int64], batch_size: int, seed: int) -> RowBatches:
        """The training batches of an epoch, from the rows at some places."""
        return RowBatches(rows, places, batch_size, self.config.history, self.task, seed)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Log loss of clicks, or the mean squared error of ratings."""
        return {"loss": self._error(self(batch), batch)}

    def _error(self, predicted_B: Tensor, batch: Batch) -> Tensor:
        if self.task == "click":
            return F.binary_cross_entropy_with_logits(predicted_B, batch["label"])
        return F.mse_loss(predicted_B, batch["label"])

    @torch.inference_mode()
    def predict(self, batch: Batch) -> Tensor:
        """[B] probabilities of a click, or ratings."""
        predicted_B: Tensor = self(batch)
        return predicted_B.sigmoid() if self.task == "click" else predicted_B

    def steps(self, config: TrainingConfig, seed: int, team: Team = ALONE) -> TableSteps:
        """AdamW, and large tables row by row; see `RowModelConfig.tables`."""
        tables = [table for table in self.fields.tables.values() if isinstance(table, nn.Embedding)]
        for table in tables:
            table.sparse &= self.config.tables != "adam"
        return TableSteps(self, tables, config, self.config.tables, self.config.embedding_decay, seed, team)
