"""The baseline `linear`: a line through all that models of rows know besides ids, then biases on what it leaves.

It gets the same features (categories, bags, numbers, the moment, vectors of texts and pictures), so that a report tells
apart what features are worth and what a network makes of them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, lsqr

from modalrec.data.columns import cuts
from modalrec.data.features import Bag, Features, Field, Owner
from modalrec.data.moments import FIELDS, Moments
from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN

# E rows, U users, N items, V length of a content vector, F features, M = 6 numbers of the moment.

PENALTY = 25.0
"""Weight of the squared coefficients beside the sum of squared errors."""
SAMPLE = 1_000_000
"""Rows that the line goes through, at most."""
STEPS = 100
"""Of LSQR (Paige and Saunders 1982), at most."""


class Line:
    """mean + a number of the user + a number of the item + the moment's numbers times a weight each.

    Args:
        rows: All rows; the train rows that have a rating are learnt from.
        content_NV: Vectors of the items' texts and pictures, zeros where there are none.
        moments: Where the model beside it knows the moment of a row.
        rng: Draws the rows to learn from, where there are more than `SAMPLE`.

    Attributes:
        mean: Of the train ratings.
        users_U: What the features of each user add.
        items_N: What the features of each item add.
    """

    def __init__(
        self, rows: Rows, content_NV: NDArray[np.float32] | None, moments: Moments | None, rng: np.random.Generator
    ) -> None:
        places = rows.of(TRAIN, "rating")
        if len(places) > SAMPLE:
            places = np.sort(rng.choice(places, SAMPLE, replace=False))
        assert rows.ratings is not None  # noqa: S101 (`Rows.of` has refused)
        owners = np.asarray(rows.users[places]), np.asarray(rows.items[places])
        ratings_E = rows.ratings[places].astype(np.float64)
        self.moments = moments
        self.mean = float(ratings_E.mean()) if len(ratings_E) else 0.0
        blocks = [list(_blocks(rows.features, "user", rows.trained_users()))]
        blocks += [list(_blocks(rows.features, "item", rows.trained_items()))]
        if content_NV is not None:
            blocks[1].append(_content(content_NV, rows.trained_items()))
        numbers_EM = self._moment(*owners, None if rows.timestamps is None else rows.timestamps[places])
        self.centre_M, self.scale_M = np.zeros(numbers_EM.shape[1]), np.ones(numbers_EM.shape[1])
        if numbers_EM.size:
            self.centre_M, self.scale_M = numbers_EM.mean(0), np.maximum(numbers_EM.std(0), 1e-6)
        sizes = rows.n_users, rows.n_items
        standard_EM = (numbers_EM - self.centre_M) / self.scale_M
        *weights, self.weights_M = _fit(blocks, owners, sizes, standard_EM, ratings_E - self.mean)
        self.users_U, self.items_N = (
            sum((block @ weights.pop(0) for block in of_owner), np.zeros(size))
            for of_owner, size in zip(blocks, sizes, strict=True)
        )

    def predict(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        """[B] ratings, not clipped to the scale."""
        predicted = self.mean + self.users_U[users] + self.items_N[items]
        for cut in cuts(len(predicted)):
            numbers_BM = self._moment(users[cut], items[cut], None if timestamps is None else timestamps[cut])
            predicted[cut] += (numbers_BM - self.centre_M) / self.scale_M @ self.weights_M
        return predicted

    def _moment(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None
    ) -> NDArray[np.float64]:
        """[B, M] what is known at the moment, [B, 0] where the model beside it knows nothing of that."""
        if self.moments is None or timestamps is None:
            return np.zeros((len(users), 0))
        found = self.moments.at(users, items, timestamps)
        return np.stack([found[one.key] for one in FIELDS], 1).astype(np.float64)


def _fit(
    blocks: list[list[Any]],
    owners: tuple[NDArray[np.int32], NDArray[np.int32]],
    sizes: tuple[int, int],
    numbers_EM: NDArray[np.float64],
    wanted_E: NDArray[np.float64],
) -> list[NDArray[np.float64]]:
    """The weights of each block of users, each block of items, and the numbers of rows.

    A row's features are never written out: what its user and item add is looked up.
    """
    widths = [block.shape[1] for of_owner in blocks for block in of_owner] + [numbers_EM.shape[1]]
    ends = np.cumsum(widths)[:-1]

    def forward(weights_F: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = np.split(weights_F.ravel(), ends)
        predicted_E: NDArray[np.float64] = numbers_EM @ parts[-1]
        for of_owner, ids_E in zip(blocks, owners, strict=True):
            for block in of_owner:
                predicted_E += (block @ parts.pop(0))[ids_E]
        return predicted_E

    def backward(errors_E: NDArray[np.float64]) -> NDArray[np.float64]:
        errors_E = errors_E.ravel()
        found = []
        for of_owner, ids_E, size in zip(blocks, owners, sizes, strict=True):
            sums = np.bincount(ids_E, errors_E, size)
            found += [block.T @ sums for block in of_owner]
        return np.concatenate([*found, numbers_EM.T @ errors_E])

    if not sum(widths) or not len(wanted_E):
        return [np.zeros(width) for width in widths]
    shape = len(wanted_E), sum(widths)
    rows = LinearOperator(shape, matvec=forward, rmatvec=backward, dtype=np.float64)
    weights_F = lsqr(rows, wanted_E, damp=PENALTY**0.5, iter_lim=STEPS)[0]
    return list(np.split(weights_F, ends))


def _blocks(features: Features, owner: Owner, seen: NDArray[np.bool_]) -> Iterator[Any]:
    """The features of all users or items, [U or N, F] each."""
    for one in features.of(owner):
        values = features.values[one.key]
        if one.kind == "number":
            yield _standard(np.asarray(values, np.float64), seen)
        elif one.kind in ("category", "bag"):
            yield _categories(one, values, len(seen))


def _standard(values_N: NDArray[np.float64], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[N, 2] a number, 0 where it is missing, and whether it is."""
    missing = np.isnan(values_N)
    given = values_N[seen & ~missing]
    centre, scale = (given.mean(), given.std() or 1.0) if len(given) else (0.0, 1.0)
    return np.stack([np.where(missing, 0.0, (values_N - centre) / scale), missing], 1)


def _categories(one: Field, values: Any, size: int) -> Any:
    """[N, F] shares of each category: 1 of a single one, an equal part of those in a bag; unknown ones have none."""
    bag = values if isinstance(values, Bag) else Bag(values, np.arange(size + 1))
    shares = 1 / np.maximum(np.diff(bag.offsets), 1)[bag.owners()] * (bag.ids > 0)
    return csr_array((shares, bag.ids, bag.offsets), shape=(size, one.size))


def _content(content_NV: NDArray[np.float32], seen: NDArray[np.bool_]) -> NDArray[np.float32]:
    """[N, V + 1] vectors around their mean, their lengths 1 on average, 0 where an item has none; and whether it has.

    All of an item's vectors are one here: where it lacks its picture alone, that part is zero as it came.
    """
    has: NDArray[np.bool_] = np.any(content_NV != 0, axis=1)
    given = content_NV[has & seen]
    if not len(given):
        return np.zeros((len(content_NV), 1), np.float32)
    centred_NV = (content_NV - given.mean(0)) * has[:, None]
    length = float(np.sqrt(np.square(centred_NV[has & seen]).sum(1).mean())) or 1.0
    return np.concatenate([centred_NV / length, has[:, None]], 1).astype(np.float32)
