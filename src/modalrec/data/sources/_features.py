"""Raw features of items and users as tables, for `Source.item_features` and `Source.user_features`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

CATEGORY, BAG, NUMBER = pa.string(), pa.list_(pa.string()), pa.float32()
AGES = (18, 25, 35, 45, 50, 56)
"""Lower ends of the age groups of MovieLens-1M but the first, which is named 1."""


def feature_table(
    ids: Sequence[str] | pa.ChunkedArray, columns: Mapping[str, tuple[pa.DataType, Iterable[Any]]]
) -> pa.Table:
    """A table of features by name: its type and a value for each id."""
    given = {"id": (pa.string(), ids), **columns}
    return pa.table({name: _array(values, kind) for name, (kind, values) in given.items()})


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
