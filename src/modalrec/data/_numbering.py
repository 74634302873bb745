"""Ids of many rows as numbers: each distinct id is looked up by name once."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modalrec.data.names import as_names

UNSEEN, UNKNOWN = -2, -1
LARGEST = 1 << 26
"""Whole numbers up to this one are looked up in a table, of 256 MiB at most."""


class Numbering:
    """Numbers of ids, which are `NAMES` or whole numbers.

    Args:
        known: The number of every name; without, names are numbered as they appear.

    Attributes:
        numbers: The number of every name so far.
    """

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        self.numbers: dict[str, int] = dict(known or {})
        self._grows = known is None
        self._table = np.zeros(0, np.int32)

    def __call__(self, ids: pa.Array) -> NDArray[np.int32]:
        """The number of every id, UNKNOWN where it has none [N]."""
        if pa.types.is_dictionary(ids.type):
            return self._by_name(ids)
        whole = ids.to_numpy()
        if len(whole) == 0 or whole.view(np.uint64).max() > LARGEST:  # a negative one is huge
            return self._by_name(as_names(ids))
        missing = int(whole.max()) + 1 - len(self._table)
        if missing > 0:
            more = np.full(max(missing, len(self._table)), UNSEEN, np.int32)
            self._table = np.concatenate([self._table, more])
        found = self._table.take(whole, mode="clip")
        unseen = found == UNSEEN
        if unseen.any():
            new = pc.unique(ids.filter(pa.array(unseen)))
            self._table[new.to_numpy()] = self._numbers(new.cast(pa.string()).to_pylist())
            found = self._table[whole]
        return found

    def _by_name(self, names: pa.DictionaryArray) -> NDArray[np.int32]:
        table = np.array(self._numbers(names.dictionary.to_pylist()), np.int32)
        return table[names.indices.to_numpy()]

    def _numbers(self, names: list[str]) -> list[int]:
        known = self.numbers
        if self._grows:
            return [known.setdefault(name, len(known)) for name in names]
        return [known.get(name, UNKNOWN) for name in names]
