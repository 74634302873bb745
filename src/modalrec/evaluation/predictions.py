"""Predictions of a model of rows."""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.moments import Moments
from modalrec.data.rows import Rows
from modalrec.errors import TrainingError
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.training.rows import Batch, collate, to_tensor


def predict(
    model: RowModel, rows: Rows, places: NDArray[np.int64], run: Run, batch_size: int = 4096, what: str = "predicting"
) -> NDArray[np.float32]:
    """Probabilities of a click, or ratings, [E] of the rows at these places, in their order.

    Args:
        model: The model.
        rows: All rows.
        places: [E] which rows.
        run: The stage's run.
        batch_size: Rows at a time.
        what: What is shown while it runs.

    Raises:
        TrainingError: A prediction is not finite.
    """
    model.eval()
    device = next(model.parameters()).device
    predicted = np.empty(len(places), np.float32)
    for begin in run.track(range(0, len(places), batch_size), what):
        part = slice(begin, begin + batch_size)
        batch = collate(rows, places[part], model.config.history, model.task)
        predicted[part] = model.predict({name: value.to(device) for name, value in batch.items()}).cpu().numpy()
    wrong = np.flatnonzero(~np.isfinite(predicted))
    if len(wrong):
        raise TrainingError(
            f"{len(wrong):,} of {len(predicted):,} predictions are not finite (first: row {places[wrong[0]]}); train "
            "again with a smaller learning rate"
        )
    return predicted


def predict_catalogue(model: RowModel, rows: Rows, place: int, moments: Moments | None) -> NDArray[np.float32]:
    """Predictions [N] for a row's user and every item, at its time, by a model that ranks (`RowModel.ranks`).

    Args:
        model: The model.
        rows: All rows.
        place: The row; its item and label are not looked at.
        moments: What is known at any time, where the rows have its fields.
    """
    n = rows.n_items
    users, items = np.full(n, rows.users[place]), np.arange(n, dtype=np.int32)
    values = {one.key: np.full(n, rows.values[one.key][place]) for one in rows.features.of("row")}
    if moments is not None and rows.timestamps is not None:
        values |= moments.at(users, items, np.full(n, rows.timestamps[place]))
    device = next(model.parameters()).device
    batch: Batch = {"user": to_tensor(users), "item": to_tensor(items), "target": to_tensor(items)}
    batch |= {name: to_tensor(given) for name, given in values.items()}
    return model.eval().predict({name: given.to(device) for name, given in batch.items()}).cpu().numpy()
