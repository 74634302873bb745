"""Raw features of items and users as tables, for `Source.item_features` and `Source.user_features`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modalrec.data.names import list_ends
from modalrec.data.sources._columns import column_kind, column_names, read_columns
from modalrec.errors import DataError

FeatureKind = Literal["category", "bag", "number"]
CATEGORY, BAG, NUMBER = pa.string(), pa.list_(pa.string()), pa.float32()
AGES = (18, 25, 35, 45, 50, 56)
"""Lower ends of the age groups of MovieLens-1M but the first, which is named 1."""


def feature_table(
    ids: Sequence[str] | pa.ChunkedArray, columns: Mapping[str, tuple[pa.DataType, Iterable[Any]]]
) -> pa.Table:
    """A table of features by name: its type and a value for each id."""
    given = {"id": (pa.string(), ids), **columns}
    return pa.table({name: _array(values, kind) for name, (kind, values) in given.items()})


@dataclass(frozen=True)
class FeatureColumns:
    """Columns of one's own table that are features.

    Attributes:
        path: The table.
        ids: The column that names the rows.
        kinds: What each column holds.
        separator: Between the categories of a bag in one cell.
    """

    path: Path
    ids: str
    kinds: Mapping[str, FeatureKind]
    separator: str

    @classmethod
    def find(
        cls, path: Path | None, ids: str, kinds: Mapping[str, FeatureKind], separator: str
    ) -> "FeatureColumns | None":
        """The columns, where any are asked for.

        Raises:
            DataError: One is not there.
        """
        if path is None or not kinds:
            return None
        found = cls(path, ids, kinds, separator)
        missing = [name for name in (ids, *kinds) if name not in column_names(path)]
        if missing:
            names = ", ".join(column_names(path))
            raise DataError(
                f"{path}: no column {', '.join(map(repr, missing))}; it has {names}. Change the features in the "
                "source's config"
            )
        return found

    def read(self) -> pa.Table:
        """The features, see `Source.item_features`.

        Raises:
            DataError: The file is malformed; all its problems in one error.
        """
        types = {name: NUMBER if kind == "number" else CATEGORY for name, kind in self.kinds.items()}
        for name, kind in self.kinds.items():
            stored = column_kind(self.path, name)
            if kind == "bag" and stored and pa.types.is_nested(stored):
                types[name] = BAG
        columns = {name: name for name in (self.ids, *self.kinds)}
        batches = read_columns(self.path, columns, {self.ids: pa.string(), **types}, [self.ids])
        table = pa.Table.from_batches(batches)
        features = {
            name: (BAG, split_cells(table[name].combine_chunks(), self.separator))
            if kind == "bag" and types[name] == CATEGORY
            else (types[name], table[name])
            for name, kind in self.kinds.items()
        }
        return feature_table(table[self.ids], features)


def split_cells(cells: pa.Array, separator: str) -> pa.Array:
    """Texts as lists of what stands between separators, without blanks around it; an empty text is an empty list."""
    lists = pc.split_pattern(cells.fill_null(""), separator)
    values = pc.utf8_trim_whitespace(lists.flatten())
    kept = pc.not_equal(values, "").to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(kept)])[list_ends(lists)]
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values.filter(pa.array(kept)))


def _array(values: Iterable[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    return values.cast(kind) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(list(values), kind)


def age_group(age: int | None) -> str | None:
    """The age group of MovieLens-1M that an age is in, by its lower end.

    Example:
        >>> [age_group(age) for age in (7, 18, 34, 56, None)]
        ['1', '18', '25', '56', None]
    """
    if age is None:
        return None
    return str(max((begin for begin in AGES if begin <= age), default=1))
