"""What is known at the moment of a row: how often its user and its item were met before, since when, and the hour.

Only train rows strictly before the row count, whatever part the row is of: so the numbers mean the same in training and
in test, and nothing of a row's own future is in them.
"""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.columns import cuts
from modalrec.data.features import Field
from modalrec.data.popularity import TrainCounts

# E rows, B rows that are asked about.

DAY = 86_400
FIELDS = (
    Field("user_count", "row", "number"),
    Field("item_count", "row", "number", popularity=True),
    Field("user_days", "row", "number"),
    Field("item_days", "row", "number"),
    Field("hour_sin", "row", "number"),
    Field("hour_cos", "row", "number"),
)
"""log(1 + train rows before) of user and item, log(1 + days since the first of them), and the hour of the day (UTC) on
the circle."""


def of_owner(owner: str) -> tuple[str, ...]:
    """The keys of what is known of a row's user, or of its item; 0 where nothing is."""
    return tuple(one.key for one in FIELDS if one.name.startswith(f"{owner}_"))


class Moments:
    """Knows the train rows of every user and item by time.

    Args:
        users: [E] user of every row.
        items: [E] item of every row.
        timestamps: [E] seconds since 1970.
        counted: The places of the rows that count: those for training.
    """

    def __init__(
        self,
        users: NDArray[np.int32],
        items: NDArray[np.int32],
        timestamps: NDArray[np.int64],
        counted: NDArray[np.int64],
    ) -> None:
        self._users, self._items = (TrainCounts(owners, timestamps, counted) for owners in (users, items))
        self._first_of_user, self._first_of_item = (_first(owners, timestamps, counted) for owners in (users, items))

    def at(
        self, users: NDArray[np.int32], items: NDArray[np.int32], timestamps: NDArray[np.int64]
    ) -> dict[str, NDArray[np.float32]]:
        """By key of each of `FIELDS` [B], what was known of these users and items strictly before these times."""
        angle = (timestamps % DAY) * (2 * np.pi / DAY)
        found = (
            np.log1p(self._users.before(users, timestamps)),
            np.log1p(self._items.before(items, timestamps)),
            _log_days(self._first_of_user, users, timestamps),
            _log_days(self._first_of_item, items, timestamps),
            np.sin(angle),
            np.cos(angle),
        )
        return {one.key: values.astype(np.float32) for one, values in zip(FIELDS, found, strict=True)}


def _first(owners: NDArray[np.int32], timestamps: NDArray[np.int64], counted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The time of each owner's first row that counts; the end of time where there is none."""
    first = np.full(int(owners.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    for cut in cuts(len(counted)):
        np.minimum.at(first, owners[counted[cut]], timestamps[counted[cut]])
    return first


def _log_days(
    first: NDArray[np.int64], owners: NDArray[np.int32], timestamps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of an owner without an earlier row it is 0, as of one whose first row is just past."""
    began = np.full(len(owners), np.iinfo(np.int64).max)
    known = owners < len(first)
    began[known] = first[owners[known]]
    return np.log1p(np.maximum(timestamps - np.minimum(began, timestamps), 0) / DAY)
