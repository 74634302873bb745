"""How far predicted ratings lie from the real ones, on the scale of the data and over all rows.

Errors are means over rows: a mean of the means of batches, and the root of one, depends on how rows were batched.
"""

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.metrics import Interval

# E rows, U users, S resamples.

Ratings = NDArray[np.float32]


def errors(ratings_E: Ratings, predicted_E: Ratings) -> dict[str, float]:
    """`mse`, `mae` and `rmse`; NaN without rows."""
    if not len(ratings_E):
        return dict.fromkeys(("mse", "mae", "rmse"), float("nan"))
    left = ratings_E.astype(np.float64) - predicted_E
    squared = float(np.square(left).mean())
    return {"mse": squared, "mae": float(np.abs(left).mean()), "rmse": squared**0.5}


def rmse_interval(
    users_E: NDArray[np.int32], ratings_E: Ratings, predicted_E: Ratings, rng: np.random.Generator, samples: int
) -> Interval:
    """The 95 % interval of the RMSE over users, who are resampled whole: rows of one are not independent."""
    users = np.unique(users_E, return_inverse=True)[1]
    n_users = int(users.max(initial=-1)) + 1
    if not n_users:
        return Interval(float("nan"), float("nan"))
    squares_U = np.bincount(users, np.square(ratings_E.astype(np.float64) - predicted_E))
    rows_U = np.bincount(users)
    draws_SU = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=samples)
    low, high = np.quantile(np.sqrt(draws_SU @ squares_U / (draws_SU @ rows_U)), [0.025, 0.975])
    return Interval(float(low), float(high))


def by_activity(counts_E: NDArray[np.int64], cuts: tuple[int, ...]) -> dict[str, NDArray[np.bool_]]:
    """Which rows [E] are of an owner with so many train rows: `0`, `1_to_9`, and so on, `100_up` at the end.

    Args:
        counts_E: [E] train rows of the row's user, or item.
        cuts: Where groups begin, ascending, above 0.
    """
    begins = (0, *cuts)
    ends = (*cuts, None)
    found = {}
    for begin, end in zip(begins, ends, strict=True):
        inside = counts_E >= begin if end is None else (counts_E >= begin) & (counts_E < end)
        name = f"{begin}_up" if end is None else str(begin) if end == begin + 1 else f"{begin}_to_{end - 1}"
        found[name] = inside
    return found
