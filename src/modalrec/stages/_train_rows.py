"""Training on labelled rows: a model, its batches, and the predictions that it is validated by."""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.rows import Rows, load_rows
from modalrec.data.splits import TRAIN, VALID
from modalrec.errors import ConfigError, DataError
from modalrec.evaluation.ctr import auc, log_loss, user_auc
from modalrec.evaluation.predictions import predict
from modalrec.plugins import create
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.stages._fine_tuning import fine_tune
from modalrec.stages._rows import row_space
from modalrec.stages._train_given import Given, Prepared
from modalrec.stages._transfer import refuse_foreign, same_dataset, start_from
from modalrec.training.loop import Validate


def prepare(given: Given) -> Prepared:
    """Builds the model and the batches that it learns from.

    Raises:
        ConfigError: Rows cannot be perturbed for pre-training, or the start is a model of another dataset.
        DataError: The dataset has no labels, or the split no train rows.
        ArtifactError: Codes or vectors are not of this dataset's items.
    """
    config, run = given.config, given.run
    name = config.recommender.name
    if given.augment:
        raise ConfigError(f"recommender {name}: learns from rows, which are not perturbed; leave pretrain out")
    rows = load_rows(given.dataset, given.split, config.rows, with_valid=config.fit_on == "train_and_valid")
    model: RowModel = create("recommenders", config.recommender, row_space(given.dataset, rows, given.about))
    if given.start is not None:
        if not same_dataset(given.manifests):
            raise ConfigError(f"{given.start}: {name} cannot start from a model of another dataset; leave it out")
        refuse_foreign(given.start, given.manifests, config, given.split)
        start_from(model, given.start, given.manifests, run)
    if model.tuned:
        fine_tune(model, given.dataset, given.about, run)
    places = rows.of(TRAIN, model.task)
    if not len(places):
        raise DataError(f"{given.dataset}: no train row of the split {given.split} has a label")
    batches = model.batches(rows, places, given.training.batch_size, run.seed)
    return Prepared(model, batches, _validation(model, rows, config.monitor, run), {})


def _validation(model: RowModel, rows: Rows, monitor: str, run: Run) -> Validate | None:
    places = rows.of(VALID, model.task)
    if not len(places):
        return None
    if monitor not in measured(model, rows, places, np.zeros(len(places), np.float32)):
        raise DataError(
            f"monitor={monitor}: cannot be measured on {len(places):,} validation rows of the split {rows.split_name}, "
            "which lack one of the labels; take monitor=neg_log_loss"
        )
    quiet = Run(stage=run.stage, seed=run.seed, device=run.device, quiet=True)
    return lambda: measured(model, rows, places, predict(model, rows, places, quiet))


def measured(
    model: RowModel, rows: Rows, places: NDArray[np.int64], predicted: NDArray[np.float32]
) -> dict[str, float]:
    """What a model can be monitored by, the higher the better; without what cannot be told of these rows."""
    if model.task == "rating":
        assert rows.ratings is not None  # noqa: S101 (`Rows.of` has refused)
        errors = rows.ratings[places].astype(np.float64) - predicted
        return {"neg_rmse": -float(np.sqrt(np.square(errors).mean()))}
    labels = np.asarray(rows.labels[places])
    found = {
        "auc": auc(labels, predicted),
        "user_auc": user_auc(np.asarray(rows.users[places]), labels, predicted)[0],
        "neg_log_loss": -log_loss(labels, predicted),
    }
    return {name: value for name, value in found.items() if np.isfinite(value)}
