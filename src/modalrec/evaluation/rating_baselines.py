"""What a model of ratings stands beside: the mean, biases of users and items, biased factorisation, a line of features.

They learn from the same rows as the model and are asked about the same ones. Settings are the usual ones: of the biases
those of Koren 2010 (Factor in the Neighbors) as common libraries have them, of the factorisation (Koren et al. 2009,
Matrix Factorization Techniques) 100 factors and 20 passes of stochastic gradient descent.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import kernel
from modalrec.data.moments import Moments
from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN
from modalrec.evaluation.rating_line import Line

# E train rows, B rows that are asked about, U users, N items, K factors.

PASSES = 10
USER_PRIOR, ITEM_PRIOR = 15.0, 10.0
"""Rows of the average that a bias is smoothed with."""
FACTORS, EPOCHS, RATE, DECAY, DEVIATION = 100, 20, 0.005, 0.02, 0.1


class RatingBaseline(Protocol):
    """Predicts a rating of any user and item."""

    def predict(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """[B] ratings, within the range of those in training; not all make use of the timestamps."""


@dataclass(frozen=True)
class Biases:
    """mean + b_u + b_i; of users and items without a train row b is 0.

    Attributes:
        mean: Of the train ratings.
        users_U: b_u.
        items_N: b_i.
        low: The least train rating.
        high: The greatest.
    """

    mean: float
    users_U: NDArray[np.float64]
    items_N: NDArray[np.float64]
    low: float
    high: float

    def predict(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """See `RatingBaseline`."""
        predicted = self.mean + self.users_U[users] + self.items_N[items]
        return np.clip(predicted, self.low, self.high).astype(np.float32)


@dataclass(frozen=True)
class Factors:
    """mean + b_u + b_i + p_u q_i; what training has not seen adds nothing.

    Attributes:
        biases: mean, b_u and b_i.
        users_UK: p_u, zero for users without a train row.
        items_NK: q_i, likewise.
    """

    biases: Biases
    users_UK: NDArray[np.float64]
    items_NK: NDArray[np.float64]

    def predict(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """See `RatingBaseline`."""
        own = self.biases
        predicted = own.mean + own.users_U[users] + own.items_N[items]
        predicted += np.einsum("bk,bk->b", self.users_UK[users], self.items_NK[items])
        return np.clip(predicted, own.low, own.high).astype(np.float32)


@dataclass(frozen=True)
class LineAndBiases:
    """A line through all features, and b_u + b_i of what it leaves.

    Attributes:
        line: The line.
        biases: b_u and b_i around 0, and the range of the ratings.
    """

    line: Line
    biases: Biases

    def predict(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """See `RatingBaseline`."""
        own = self.biases
        predicted = self.line.predict(users, items, timestamps) + own.users_U[users] + own.items_N[items]
        return np.clip(predicted, own.low, own.high).astype(np.float32)


def baselines(
    rows: Rows,
    rng: np.random.Generator,
    content_NV: NDArray[np.float32] | None = None,
    moments: Moments | None = None,
) -> dict[str, RatingBaseline]:
    """`biased_mf`, `linear`, `biases` and `mean`, fitted to the train rows that have a rating.

    Args:
        rows: All rows, and the features that `linear` gets.
        rng: Draws first factors and orders.
        content_NV: Vectors of the items' texts and pictures, for `linear`.
        moments: What is known at the moment of a row, for `linear`.
    """
    users, items, ratings, times = _train(rows)
    mean = float(ratings.mean()) if len(ratings) else 0.0
    low, high = (float(ratings.min()), float(ratings.max())) if len(ratings) else (0.0, 0.0)
    nothing = Biases(mean, np.zeros(rows.n_users), np.zeros(rows.n_items), low, high)
    line = Line(rows, content_NV, moments, rng)
    left = ratings - line.predict(users, items, times)
    return {
        "biased_mf": _factors(users, items, ratings, nothing, rng),
        "linear": LineAndBiases(line, _biases(users, items, left, replace(nothing, mean=0.0))),
        "biases": _biases(users, items, ratings, nothing),
        "mean": nothing,
    }


def _train(
    rows: Rows,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.int64] | None]:
    """Users, items, ratings and times [E] of the rows that are learnt from."""
    places = rows.of(TRAIN, "rating")
    assert rows.ratings is not None  # noqa: S101 (`Rows.of` has refused)
    ratings = rows.ratings[places].astype(np.float64)
    times = None if rows.timestamps is None else rows.timestamps[places]
    return np.asarray(rows.users[places]), np.asarray(rows.items[places]), ratings, times


def _biases(
    users_E: NDArray[np.int32], items_E: NDArray[np.int32], ratings_E: NDArray[np.float64], nothing: Biases
) -> Biases:
    """Alternating least squares: each bias is the mean of what is left, smoothed towards 0."""
    users_U, items_N = nothing.users_U.copy(), nothing.items_N.copy()
    of_user, of_item = (np.bincount(ids, minlength=n) for ids, n in ((users_E, len(users_U)), (items_E, len(items_N))))
    left_E = ratings_E - nothing.mean
    for _ in range(PASSES):
        items_N = np.bincount(items_E, left_E - users_U[users_E], len(items_N)) / (ITEM_PRIOR + of_item)
        users_U = np.bincount(users_E, left_E - items_N[items_E], len(users_U)) / (USER_PRIOR + of_user)
    return Biases(nothing.mean, users_U, items_N, nothing.low, nothing.high)


def _factors(
    users_E: NDArray[np.int32],
    items_E: NDArray[np.int32],
    ratings_E: NDArray[np.float64],
    nothing: Biases,
    rng: np.random.Generator,
) -> Factors:
    users_U, items_N = nothing.users_U.copy(), nothing.items_N.copy()
    users_UK = rng.normal(0, DEVIATION, (len(users_U), FACTORS))
    items_NK = rng.normal(0, DEVIATION, (len(items_N), FACTORS))
    users_UK[np.bincount(users_E, minlength=len(users_U)) == 0] = 0.0
    items_NK[np.bincount(items_E, minlength=len(items_N)) == 0] = 0.0
    for _ in range(EPOCHS):
        order_E = rng.permutation(len(ratings_E))
        descend(users_E, items_E, ratings_E, order_E, nothing.mean, users_U, items_N, users_UK, items_NK, RATE, DECAY)
    return Factors(Biases(nothing.mean, users_U, items_N, nothing.low, nothing.high), users_UK, items_NK)


@kernel
def descend(
    users_E: NDArray[np.int32], items_E: NDArray[np.int32], ratings_E: NDArray[np.float64],
    order_E: NDArray[np.int64], mean: float, users_U: NDArray[np.float64], items_N: NDArray[np.float64],
    users_UK: NDArray[np.float64], items_NK: NDArray[np.float64], rate: float, decay: float,
) -> None:  # fmt: skip
    """One pass of stochastic gradient descent, a row at a time in the given order; changes the last four arrays.

    It is its own twin: without a compiler the same loops run as they are, slowly.

    Args:
        users_E: [E] user of every row.
        items_E: [E] item of every row.
        ratings_E: [E].
        order_E: [E] the order.
        mean: Of all ratings.
        users_U: [U] biases of users.
        items_N: [N] biases of items.
        users_UK: [U, K] factors of users.
        items_NK: [N, K] factors of items.
        rate: Learning rate.
        decay: Weight of half the squares of what a row uses.
    """
    for place in order_E:
        user, item = users_E[place], items_E[place]
        error = ratings_E[place] - mean - users_U[user] - items_N[item]
        for factor in range(users_UK.shape[1]):
            error -= users_UK[user, factor] * items_NK[item, factor]
        users_U[user] += rate * (error - decay * users_U[user])
        items_N[item] += rate * (error - decay * items_N[item])
        for factor in range(users_UK.shape[1]):
            of_user = users_UK[user, factor]
            users_UK[user, factor] += rate * (error * items_NK[item, factor] - decay * of_user)
            items_NK[item, factor] += rate * (error * of_user - decay * items_NK[item, factor])
