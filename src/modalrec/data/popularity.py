"""How popular an item was at a moment: its train events strictly before it, as a level."""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.columns import Columns, cuts

TOP = 10
LEVELS = TOP + 2
"""Categories of a level: 0 for unknown, then the levels 0 to 10."""
TIME_BITS = 40


class TrainCounts:
    """Counts events of an item before a time.

    Args:
        items: [E] item of every event.
        timestamps: [E] seconds.
        counted: The places of the events that count.
    """

    def __init__(self, items: NDArray[np.int32], timestamps: NDArray[np.int64], counted: NDArray[np.int64]) -> None:
        self._first = int(timestamps.min(initial=0))
        # Item and time in one number, so that one sorted array answers.
        keys = Columns()
        for cut in cuts(len(counted)):
            keys.append("keys", self._key(items[counted[cut]], timestamps[counted[cut]]), np.int64)
        self._keys = keys.take("keys", writable=True)
        self._keys.sort()

    def before(self, items: NDArray[np.int32], timestamps: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many events of each item came strictly before each time."""
        own = np.searchsorted(self._keys, items.astype(np.int64) << TIME_BITS)
        return np.searchsorted(self._keys, self._key(items, timestamps)) - own

    def _key(self, items: NDArray[np.int32], timestamps: NDArray[np.int64]) -> NDArray[np.int64]:
        return (items.astype(np.int64) << TIME_BITS) + (timestamps - self._first)


def level(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Counts as categories: 1 + log2(1 + count), rounded down, at most 1 + 10."""
    levels = np.floor(np.log2(counts + 1.0))
    return (1 + np.minimum(levels, TOP)).astype(np.uint8)
