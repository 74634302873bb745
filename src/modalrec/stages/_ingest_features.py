"""The fourth part of `ingest`: features of items and users as numbers of categories."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modalrec.artifacts.features import MAX_VALUES, TYPES, Feature, Part
from modalrec.data.sources import Source
from modalrec.errors import DataError

Coded = tuple[pa.Table, dict[str, Feature]]


def features(reader: Source, items: pa.Table, users: Sequence[str]) -> dict[Part, Coded]:
    """The features that the source has, a row for each item or user of the dataset.

    Args:
        reader: The source.
        items: `ITEM_ROWS` of the dataset's items.
        users: The ids of its users.

    Raises:
        DataError: An id stands twice.
    """
    item_table, user_table = reader.item_features(), reader.user_features()
    found: dict[Part, Coded] = {}
    if item_table is not None:
        found["item"] = encode(_aligned(item_table, items["item_id"], reader), reader.popularity)
    if user_table is not None:
        found["user"] = encode(_aligned(user_table, pa.chunked_array([pa.array(users, pa.string())]), reader))
    return found


def encode(table: pa.Table, popularity: frozenset[str] = frozenset()) -> Coded:
    """Columns of strings, lists of strings and numbers as columns of `TYPES`.

    Categories are numbered from 1 in the order of their names, which is that of numbers where all are whole numbers.
    """
    columns, found = {}, {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            values, codes = _codes(column.flatten())
            lengths = pc.list_value_length(column).fill_null(0).to_numpy()
            kept = codes > 0
            owners = np.repeat(np.arange(len(column)), lengths)[kept]
            ends = np.cumsum(np.bincount(owners, minlength=len(column)))
            offsets = np.concatenate([[0], ends]).astype(np.int32)
            columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(codes[kept]))
            kind = "bag"
        elif pa.types.is_floating(column.type):
            columns[name] = column.cast(pa.float32()).fill_null(float("nan"))
            found[name] = Feature(kind="number", popularity=name in popularity)
            continue
        else:
            values, codes = _codes(column)
            columns[name] = pa.array(codes)
            kind = "category"
        shown = tuple(values) if len(values) <= MAX_VALUES else None
        size = len(values) + 1
        found[name] = Feature(kind=kind, size=size, popularity=name in popularity, values=shown)
    return pa.table(columns, schema=pa.schema([(name, TYPES[found[name].kind]) for name in columns])), found


def _codes(names: pa.Array) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct names in their order, and each name's number from 1; null is 0."""
    coded = names.dictionary_encode()
    values: list[str] = coded.dictionary.to_pylist()
    numeric = all(value.isascii() and value.isdigit() for value in values)
    order = sorted(range(len(values)), key=lambda place: int(values[place]) if numeric else values[place])
    numbers = np.zeros(len(values) + 1, np.int32)
    numbers[order] = np.arange(1, len(values) + 1, dtype=np.int32)
    return [values[place] for place in order], numbers[coded.indices.fill_null(len(values)).to_numpy()]


def _aligned(table: pa.Table, ids: pa.ChunkedArray, reader: Source) -> pa.Table:
    """The rows of these ids, null where the table lacks one."""
    given = table["id"].combine_chunks()
    if pc.count_distinct(given).as_py() < len(given):
        twice = given.value_counts()
        name = twice.filter(pc.greater(twice.field("counts"), 1))[0]["values"].as_py()
        raise DataError(f"{reader.items_file.parent}: features of {name!r} stand twice; keep one row of them")
    places = pc.index_in(ids, given)
    return table.drop_columns(["id"]).take(places)
