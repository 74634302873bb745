"""Parquet files of a fixed form: every column's type is known, and what deviates is named, all of a file at once."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from modalrec.artifacts.schemas import UNREADABLE, stream
from modalrec.data.names import list_ends
from modalrec.data.sources._columns import BATCH, open_parquet
from modalrec.errors import DataError, Problems

LARGEST = 2**31 - 1

Kind = Literal["id", "ids", "level", "text", "flag", "vector"]
"""What a column holds: a whole number from 0, a list of them, a small whole number or null, a text or null, 0 or 1, a
list of floats."""
EXPECTED: dict[Kind, str] = {
    "id": "whole numbers",
    "ids": "lists of whole numbers",
    "level": "whole numbers",
    "text": "strings",
    "flag": "0 and 1",
    "vector": "lists of floats",
}


def check_columns(path: Path, columns: Mapping[str, Kind], optional: Mapping[str, Kind], problems: Problems) -> None:
    """Notes columns that are missing or of another type; other columns may be there.

    Args:
        path: A parquet file.
        columns: The columns that must be there.
        optional: Those that may be missing.
        problems: Takes what is wrong.

    Raises:
        DataError: It is no parquet file.
    """
    with open_parquet(path) as file:
        schema = file.schema_arrow
        if not file.metadata.num_rows:
            problems.add("", "has no rows")
    for name, kind in {**columns, **optional}.items():
        if name not in schema.names:
            if name in columns:
                problems.add("", f"no column {name!r} ({EXPECTED[kind]}); it has {', '.join(schema.names)}")
        elif schema.names.count(name) > 1:
            problems.add("", f"two columns are named {name!r}")
        elif not _fits(schema.field(name).type, kind):
            problems.add("", f"{name} is {schema.field(name).type}, expected {EXPECTED[kind]}")


def read_strictly(path: Path, columns: Mapping[str, Kind]) -> Iterator[pa.RecordBatch]:
    """Yields the columns, as they are stored, of a file whose columns have been checked.

    Raises:
        DataError: The file is damaged, or cells are bad: all of them in one error.
    """
    problems = Problems(path)
    row = 0
    with open_parquet(path) as file:
        try:
            for batch in stream(file, BATCH, list(columns)):
                batch = batch.select(list(columns))
                for name, kind in columns.items():
                    _check(batch.column(name), kind, name, row, problems)
                row += batch.num_rows
                if not len(problems):
                    yield batch
        except UNREADABLE as error:
            raise DataError(f"{path}: after row {row}: {error}. Fetch the file again") from None
    problems.raise_if_any("Mend these rows, or fetch the file again")


def _fits(kind: pa.DataType, expected: Kind) -> bool:
    if expected in ("ids", "vector"):
        nested = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        inner = pa.types.is_integer if expected == "ids" else pa.types.is_floating
        return nested and inner(kind.value_type)
    if expected == "text":
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if expected == "flag":
        return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return pa.types.is_integer(kind)


def _check(column: pa.Array, kind: Kind, name: str, row: int, problems: Problems) -> None:
    if kind in ("text", "vector"):
        return
    if kind != "level" and column.null_count:
        _note(column.is_null(), "is empty", name, row, problems)
    if kind == "ids":
        values = column.flatten()
        if values.null_count or _outside(values):
            bad = pc.or_kleene(values.is_null(), pc.fill_null(_out(values), True)).to_numpy(zero_copy_only=False)
            owners = np.searchsorted(list_ends(column), np.flatnonzero(bad), side="right") - 1
            _places(np.unique(owners), "has an entry that is empty, negative or too large", name, row, problems)
    elif kind == "flag":
        values = column.cast(pa.float64())
        wrong = pc.and_(pc.not_equal(values, 0.0), pc.not_equal(values, 1.0))
        if pc.any(wrong, min_count=0).as_py():
            _note(pc.fill_null(wrong, False), "is neither 0 nor 1", name, row, problems)
    elif _outside(column):
        _note(pc.fill_null(_out(column), False), f"is not from 0 to {LARGEST:,}", name, row, problems)


def _outside(values: pa.Array) -> bool:
    limits = pc.min_max(values).as_py()
    return limits["min"] is not None and (limits["min"] < 0 or limits["max"] > LARGEST)


def _out(values: pa.Array) -> pa.Array:
    return pc.or_(pc.less(values, pa.scalar(0, values.type)), pc.greater(values.cast(pa.float64()), float(LARGEST)))


def _note(bad: pa.Array, what: str, name: str, row: int, problems: Problems) -> None:
    _places(bad.to_numpy(zero_copy_only=False).nonzero()[0], what, name, row, problems)


def _places(places: NDArray[np.int64], what: str, name: str, row: int, problems: Problems) -> None:
    problems.extend([f"row {row + place + 1}, {name}" for place in places.tolist()], what)
