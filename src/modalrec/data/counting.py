"""Counting numbers of many events in parts that a processor's cache holds: `np.bincount` makes int64 of them all."""

import numpy as np
from numpy.typing import NDArray

PART = 1 << 16


def count(numbers: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each number stands there, up to the greatest."""
    counts = np.zeros(int(numbers.max(initial=-1)) + 1, np.int64)
    for begin in range(0, len(numbers), PART):
        found = np.bincount(numbers[begin : begin + PART])
        counts[: len(found)] += found
    return counts


def present(numbers: NDArray[np.int32], chosen: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Whether each number below `size` [size] stands at a chosen place.

    Args:
        numbers: [E].
        chosen: [E].
        size: The numbers there are.
    """
    flags = np.zeros(size, np.bool_)
    for begin in range(0, len(numbers), PART):
        part = slice(begin, begin + PART)
        flags[numbers[part][chosen[part]]] = True
    return flags
