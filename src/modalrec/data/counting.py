"""Counting among the numbers of many events without a copy of them all, as `np.bincount` makes one."""

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import AVAILABLE
from modalrec.data._event_kernels import mark

PART = 1 << 16
"""Numbers that are counted at a time: a processor's cache holds them."""


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
    if AVAILABLE:
        mark(numbers, chosen, flags)
    else:
        flags[numbers[chosen]] = True
    return flags
