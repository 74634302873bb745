"""The tables inside artifacts: one place for their columns and types.

Items are rows of `items.parquet`: the row number is the item's index everywhere inside one dataset, `item_id` its name
outside. Users are numbered the same way by `users.parquet`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from modalrec.errors import ArtifactError

UNREADABLE = (OSError, pa.ArrowException, UnicodeDecodeError)
"""What reading a damaged parquet file raises; the last one for a column whose name is no text."""

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("year", pa.int32()),
        pa.field("image", pa.string(), nullable=False),
    ]
)
"""`text` is what text encoders read, null where there is none; `image` is given, drawn or none."""

USERS = pa.schema([pa.field("user_id", pa.string(), nullable=False)])

INTERACTIONS = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("item", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("timestamp", pa.int64()),
        pa.field("rating", pa.float32()),
    ]
)
"""Sorted by (user, position); timestamps in seconds since 1970. One more int8 column `split_<name>` per split:
0 train, 1 valid, 2 test (`modalrec.data.splits`). Labelled rows have some of `LABELLED` too."""

LABEL = pa.field("label", pa.int8())
"""1 or 0; null where it is hidden, as in the test rows of a challenge."""
HISTORY = pa.field("history", pa.list_(pa.int32()), nullable=False)
"""The items before a row, oldest first, where the source gives them; else they are the user's earlier rows."""
ROW_ID = pa.field("row_id", pa.int64())
"""The number that the source gives a row, for predictions; null where it gives none."""
LABELLED = (LABEL, HISTORY, ROW_ID)
"""Columns of interactions that rows with labels may have, in this order."""

IMAGES = pa.schema(
    [
        pa.field("item", pa.int32(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)
"""`images/part-*.parquet`, sorted by item: JPEG, RGB, at most the configured side."""


def embeddings(dimension: int) -> pa.Schema:
    """`embeddings.parquet`: one row an item of the dataset, in its order; `embedding` is zero where not `present`."""
    return pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("present", pa.bool_(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def embedding_lists(dimension: int) -> pa.Schema:
    """`embeddings.parquet` of items with several vectors each, such as sentences; empty where not `present`."""
    vector = pa.list_(pa.float32(), dimension)
    return embeddings(dimension).set(2, pa.field("embedding", pa.list_(vector), nullable=False))


def codes(length: int) -> pa.Schema:
    """`codes.parquet`: one row an item; `semantic_id` is `length` codes by level, the collision position last."""
    return pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("semantic_id", pa.list_(pa.int32(), length), nullable=False),
        ]
    )


def code_groups(lengths: Mapping[str, int]) -> pa.Schema:
    """`codes.parquet` of named groups: one row an item, and one column of codes a group, of the group's length."""
    groups = [pa.field(name, pa.list_(pa.int32(), length), nullable=False) for name, length in lengths.items()]
    return pa.schema([pa.field("item_id", pa.string(), nullable=False), *groups])


RANKS = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("target", pa.int32(), nullable=False),
        pa.field("greater", pa.int64(), nullable=False),
        pa.field("equal", pa.int64(), nullable=False),
    ]
)
"""Per target, the `position`-th event of its user after those that the evaluation left out: how many candidates score
greater than it and how many equal (itself not counted)."""

TOP_K = pa.schema(
    [
        pa.field("user", pa.int32(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("items", pa.list_(pa.int32()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)


def read_table(path: Path, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
    """Reads a parquet file of an artifact and checks that the schema's columns are there with their types.

    Args:
        path: The file.
        schema: The columns that must be there; others may be too.
        columns: Columns to read, all of the file's by default.

    Raises:
        ArtifactError: The file is missing, no parquet, or a column is missing or of another type.
    """
    check_columns(path, schema)
    try:
        return pq.read_table(path, columns=columns)
    except UNREADABLE as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the stage that made it again") from None


def check_columns(path: Path, schema: pa.Schema) -> list[str]:
    """Checks the columns of a parquet file without reading it, for tables that are read piece by piece.

    Returns:
        The names of all its columns.

    Raises:
        ArtifactError: The file is missing, no parquet, or a column is missing or of another type.
    """
    try:
        found = pq.read_schema(path)
    except UNREADABLE as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); run the stage that made it again") from None
    wrong = [
        f"{field.name} ({_type(found, field.name)} instead of {field.type})"
        for field in schema
        if _type(found, field.name) != field.type
    ]
    if wrong:
        raise ArtifactError(f"{path}: wrong columns: {', '.join(wrong)}; run the stage that made it again")
    return list(found.names)


def stream(file: pq.ParquetFile, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yields columns of a table, by default all, `rows` at a time and the rest at the end, whatever its row groups.

    One row group is read after the other: asked for all, `iter_batches` keeps the bytes of those that it has read.
    """
    left: pa.RecordBatch | None = None
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
            found = pa.concat_batches([left, batch]) if left else batch
            whole = len(found) - len(found) % rows
            yield from (found.slice(begin, rows) for begin in range(0, whole, rows))
            left = found.slice(whole)
    if left:
        yield left


def _type(schema: pa.Schema, column: str) -> pa.DataType | str:
    return schema.field(column).type if column in schema.names else "missing"
