"""Columns of a table by their meaning, from parquet or delimited text: shared by the sources of one's own tables."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modalrec import config
from modalrec.artifacts.schemas import UNREADABLE, stream
from modalrec.data.archives import is_inside
from modalrec.data.delimited import read_delimited, read_header
from modalrec.data.sources import find_file
from modalrec.errors import ConfigError, DataError, Problems

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
BATCH = 1 << 16
"""Rows of a parquet file read at a time."""


def find_table(folder: Path, named: str | None, name: str) -> Path:
    """The named file of a folder, else the one called `name` with a known suffix.

    Raises:
        ConfigError: The name leads out of the folder or has another suffix.
        DataError: There is none, or more than one.
    """
    if named is None:
        return find_file(folder, [f"{name}{suffix}" for suffix in (".parquet", ".csv", ".tsv")], name)
    if not is_inside(named) or not named.endswith(SUFFIXES):
        raise ConfigError(f"{name}: {named!r} is not a file in the source folder that ends in {', '.join(SUFFIXES)}")
    return folder / named


def find_columns(path: Path, names: config.Config, needed: list[str], setting: str) -> dict[str, str]:
    """The columns that the file has, by meaning.

    Args:
        path: The table.
        names: From meaning to the column's name.
        needed: Meanings that must be there; others may lack under their default names.
        setting: The fields of the source's config that set the names, for the message.

    Raises:
        DataError: Columns are missing; all of them in one error.
    """
    header = column_names(path)
    columns: dict[str, str] = dict(names)
    problems = Problems(path)
    for meaning, column in columns.items():
        if column not in header and (meaning in needed or column != meaning):
            problems.add("", f"no column {column!r} for {meaning}")
    problems.raise_if_any(f"It has {', '.join(header)}; set {setting} of the source")
    return {meaning: column for meaning, column in columns.items() if column in header}


def column_names(path: Path) -> list[str]:
    """The columns of a table.

    Raises:
        DataError: The file is missing, empty or unreadable.
    """
    return open_parquet(path).schema_arrow.names if path.suffix == ".parquet" else read_header(path, delimiter(path))


def read_columns(
    path: Path, columns: dict[str, str], types: dict[str, pa.DataType], filled: list[str]
) -> Iterator[pa.RecordBatch]:
    """The columns of a table, named by meaning.

    Raises:
        DataError: The file is malformed; all its problems in one error.
    """
    schema = pa.schema([pa.field(columns[name], types[name], nullable=name not in filled) for name in columns])
    batches = read_parquet(path, schema) if path.suffix == ".parquet" else read_delimited(path, schema, delimiter(path))
    for batch in batches:
        yield pa.RecordBatch.from_arrays(batch.columns, names=list(columns))


def delimiter(path: Path) -> str:
    """What a text file's name says of the delimiter."""
    return "\t" if ".tsv" in path.suffixes else ","


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file.

    Raises:
        DataError: It is missing or no complete parquet file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds it")
    try:
        return pq.ParquetFile(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: is no complete parquet file ({error}); fetch it again") from None


def column_kind(path: Path, column: str | None) -> pa.DataType | None:
    """The type of a parquet column."""
    return open_parquet(path).schema_arrow.field(column).type if column and path.suffix == ".parquet" else None


def read_parquet(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yields the columns of a schema, see `convert`."""
    with open_parquet(path) as file:
        yield from convert(stream(file, BATCH, schema.names), schema, path)


def convert(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> Iterator[pa.RecordBatch]:
    """Casts the columns of a schema; ids may be numbers, dictionaries are decoded.

    Raises:
        DataError: A value does not fit its type, or is missing where it must not; or there are no rows.
    """
    problems = Problems(path)
    row = 0
    try:
        for batch in batches:
            columns = [_cast(batch.column(field.name), field) for field in schema]
            for field, column in zip(schema, columns, strict=True):
                bad = pc.is_null(column, nan_is_null=True)
                if not field.nullable and pc.any(bad, min_count=0).as_py():
                    places = bad.to_numpy(zero_copy_only=False).nonzero()[0].tolist()
                    problems.extend([f"row {row + place + 1}, {field.name}" for place in places], "is empty")
            row += batch.num_rows
            if not len(problems):
                yield pa.RecordBatch.from_arrays(columns, names=schema.names)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: after row {row}: {error}. Write the file again") from None
    problems.raise_if_any("Fill or drop these rows")
    if row == 0:
        raise DataError(f"{path}: has no rows; write the file again")


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(field.type):
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            raise ValueError(f"{field.name}: is {kind}; write it as integers or strings")
        column = column.cast(pa.string())
        return pc.if_else(pc.equal(column, ""), None, column)
    if pa.types.is_temporal(kind):
        unit = field.type.unit if pa.types.is_timestamp(field.type) else "s"
        moments = column.cast(pa.timestamp(unit, getattr(kind, "tz", None)), safe=False)
        return moments.cast(pa.int64()).cast(field.type if unit == "s" else pa.int64())
    # Integers above 2**53 lose digits as floats; times in nanoseconds can spare them.
    return column.cast(field.type, safe=not pa.types.is_floating(field.type))
