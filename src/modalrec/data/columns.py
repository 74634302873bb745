"""Arrays on disk: columns that are written piece by piece, and orders of many rows.

Their files have no names and go with the last array over them, or with the process, however it ends. The system keeps
what is used of them in memory and takes it back when it needs it; `TMPDIR` says where they lie.
"""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK = 1 << 16
"""Entries at a time, where a whole column would not fit into memory."""


class Columns:
    """Growing columns, by name."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}
        self._types: dict[str, np.dtype[Any]] = {}

    def append(self, name: str, values: NDArray[Any], dtype: DTypeLike) -> None:
        """Writes values at the end of a column."""
        if name not in self._files:
            self._files[name] = tempfile.TemporaryFile()  # noqa: SIM115 (`take` closes it)
            self._types[name] = np.dtype(dtype)
        self._files[name].write(np.ascontiguousarray(values, self._types[name]).data)

    def __contains__(self, name: str) -> bool:
        """Whether anything was ever appended to a column."""
        return name in self._files

    def take(self, name: str, writable: bool = False) -> NDArray[Any]:
        """A column as an array; it can be taken once, and no longer grows."""
        with self._files.pop(name) as file:
            if not file.tell():
                return np.empty(0, self._types[name])
            file.flush()
            return np.asarray(np.memmap(file, self._types[name], "r+" if writable else "r"))


def cuts(n: int) -> Iterator[slice]:
    """Yields the pieces of `n` entries: one of none where there are none."""
    for begin in range(0, max(1, n), BLOCK):
        yield slice(begin, min(begin + BLOCK, n))


def shuffled(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`rng.permutation(n)`, on disk."""
    column = Columns()
    for cut in cuts(n):
        column.append("order", np.arange(cut.start, cut.stop), np.int64)
    order = column.take("order", writable=True)
    rng.shuffle(order)
    return order
