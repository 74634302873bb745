"""Histories that come with the rows: kept on disk while a dataset is made, since memory holds no million of them."""

import tempfile
from array import array
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec.data.names import list_ends


class Histories:
    """Lists of item rows in a file that is gone at the end, read back by number.

    Attributes:
        unknown: Entries per item id that the items table does not hold; they are left out.
        entries: Entries read, those among them.
    """

    def __init__(self, folder: Path) -> None:
        self.unknown: Counter[str] = Counter()
        self.entries = 0
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".histories-")  # noqa: SIM115 -- closed by __exit__
        self._ends = array("q", [0])

    def __enter__(self) -> "Histories":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, lists: pa.ListArray, item_rows: Mapping[str, int]) -> None:
        """Appends lists of ids; a null is an empty list.

        Args:
            lists: The ids of a history's items, as a list of `NAMES`.
            item_rows: From item id to its row.
        """
        names = lists.flatten()
        lengths = np.diff(list_ends(lists))
        numbers = np.array([item_rows.get(name, -1) for name in names.dictionary.to_pylist()], np.int32)
        rows = numbers[names.indices.to_numpy()]
        self.entries += len(rows)
        lost = rows < 0
        if lost.any():
            self.unknown.update(names.filter(pa.array(lost)).to_pylist())
            lost_before = np.concatenate([[0], np.cumsum(lost)])
            ends = np.cumsum(lengths)
            lengths = lengths - (lost_before[ends] - lost_before[ends - lengths])
            rows = rows[~lost]
        self._file.write(rows.tobytes())
        self._ends.frombytes((np.cumsum(lengths, dtype=np.int64) + self._ends[-1]).tobytes())

    def take(self, numbers: NDArray[np.int32]) -> pa.ListArray:
        """The lists of these numbers, as item rows."""
        ends = np.frombuffer(self._ends, np.int64)
        starts = ends[numbers]
        lengths = ends[numbers + 1] - starts
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        if not offsets[-1]:
            return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array([], pa.int32()))
        self._file.flush()
        rows = np.memmap(self._file, np.int32, "r")
        places = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(rows[places]))
