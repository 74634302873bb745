"""What `pretrain` and `finetune` can be told."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from modalrec.config import Config
from modalrec.data.rows import RowsConfig
from modalrec.plugins import any_config, discover
from modalrec.recommenders._rows import RowModel
from modalrec.recommenders.encoder_decoder import EncoderDecoderConfig
from modalrec.training.loop import TrainingConfig

RANKED = Literal["recall_10", "ndcg_10", "mrr_10", "recall_20", "ndcg_20", "mrr_20"]
"""What a recommender can be monitored by."""
PREDICTED = Literal["auc", "user_auc", "neg_log_loss", "neg_rmse"]
"""What a model of rows can be monitored by; the higher the better."""


class TrainConfig(Config):
    """Configuration of `pretrain` and `finetune`.

    Attributes:
        recommender: The model.
        training: How to train it; the model decides the defaults.
        split: Whose train part to learn from, and whose validation part to stop by.
        fit_on: `train_and_valid` learns from both, without validation and for all epochs: the final model of a protocol
            whose settings were chosen before.
        targets: Rank each user's last event of the validation part, or every one: each next item of a session.
        unseen_items: What to do with validation events whose item has no train event: rank them, or drop them first.
        shuffle_histories: Destroy the order inside every history first: a control that shows what order is worth.
        monitor: The metric on the validation part whose best epoch is kept; the model decides the default.
        mask_seen: Leave the items of a user's history out of the ranking that is monitored.
        validation_users: At most so many users are ranked after each epoch, the same ones each time.
        rows: How labelled rows are read, for models of rows.
        skip_without_split: Train nothing where the dataset lacks the split, since it has no times; for controls.
    """

    recommender: any_config("recommenders") = EncoderDecoderConfig()  # type: ignore[valid-type]
    training: TrainingConfig = TrainingConfig()
    split: Literal["leave_one_out", "cold_items", "temporal", "sessions", "given", "random", "folds", "new_items"] = (
        "leave_one_out"
    )
    fit_on: Literal["train", "train_and_valid"] = "train"
    targets: Literal["last", "every"] = "last"
    unseen_items: Literal["keep", "drop"] = "keep"
    shuffle_histories: bool = False
    monitor: RANKED | PREDICTED = "ndcg_10"
    mask_seen: bool = True
    validation_users: int = Field(5000, ge=1)
    skip_without_split: bool = False
    rows: RowsConfig = RowsConfig()

    @property
    def learns_from_rows(self) -> bool:
        """Whether the model is one of labelled rows."""
        return issubclass(discover("recommenders")[self.recommender.name], RowModel)

    @classmethod
    def defaults(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The recommender's own defaults of training and rows over the general ones, and what it is monitored by."""
        found = super().defaults(settings)
        chosen = settings.get("recommender") or {}
        model = discover("recommenders").get(chosen.get("name", ""))
        if not model:
            return found
        training = {**found["training"], **model.training_defaults}
        rows = {**found["rows"], **getattr(model, "row_defaults", {})}
        return {**found, "training": training, "rows": rows, "monitor": model.monitored_by(chosen)}

    @model_validator(mode="after")
    def _suits_the_model(self) -> "TrainConfig":
        of_rows = self.learns_from_rows
        suitable = get_args(PREDICTED if of_rows else RANKED)
        if self.monitor not in suitable:
            raise ValueError(
                f"monitor={self.monitor} is not measured of {self.recommender.name}; take one of {', '.join(suitable)}"
            )
        if problem := discover("recommenders")[self.recommender.name].cannot(self.recommender, self.training):
            raise ValueError(problem)
        if of_rows and self.shuffle_histories:
            raise ValueError(f"shuffle_histories: {self.recommender.name} learns from rows; leave it at false")
        return self
