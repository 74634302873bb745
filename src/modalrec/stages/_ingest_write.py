"""The last part of `ingest`: the tables of the dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, LABELLED, USERS
from modalrec.data.events import HIDDEN, Events
from modalrec.data.histories import Histories

ROWS = 1_000_000
"""Rows of a row group of interactions."""
ROWS_WITH_HISTORY = 100_000
"""The same where histories come with the rows."""


def write_tables(
    folder: Path,
    events: Events,
    histories: Histories | None,
    splits: dict[str, NDArray[np.int8]],
    items: pa.Table,
    images: list[str],
    user_ids: list[str],
) -> None:
    """Writes items, users and interactions with the columns of labelled rows that there are, and one for each split."""
    columns = [items[name] if name in items.column_names else pa.array(images) for name in ITEMS.names]
    pq.write_table(pa.Table.from_arrays(columns, schema=ITEMS), folder / "items.parquet")
    pq.write_table(pa.table([pa.array(user_ids, pa.string())], schema=USERS), folder / "users.parquet")
    starts = np.searchsorted(events.users, np.arange(len(user_ids), dtype=np.int32))
    names = ("labels", "histories", "row_ids")
    labelled = [field for name, field in zip(names, LABELLED, strict=True) if getattr(events, name) is not None]
    flags = [pa.field(f"split_{name}", pa.int8(), nullable=False) for name in splits]
    schema = pa.schema([*INTERACTIONS, *labelled, *flags])
    rows = ROWS if histories is None else ROWS_WITH_HISTORY
    # Differences are small where rows are sorted: half the size of dictionaries, and twice as fast. What is the same
    # for many rows in a row is as small without.
    deltas = dict.fromkeys(("item", "position", "timestamp"), "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(
        folder / "interactions.parquet", schema, use_dictionary=["rating"], column_encoding=deltas
    ) as writer:
        for begin in range(0, len(events), rows):
            part = slice(begin, begin + rows)
            users = events.users[part]
            n = len(users)
            position = (np.arange(begin, begin + n) - starts[users]).astype(np.int32)
            times = (
                pa.nulls(n, pa.int64())
                if events.timestamps is None
                else pa.array(events.timestamps[part] // events.per_second)
            )
            ratings = pa.nulls(n, pa.float32())
            if events.ratings is not None:
                ratings = pa.array(events.ratings[part], from_pandas=True)
            arrays = [pa.array(users), pa.array(events.items[part]), pa.array(position), times, ratings]
            if events.labels is not None:
                arrays.append(_told(events.labels[part]))
            if events.histories is not None and histories is not None:
                arrays.append(histories.take(events.histories[part]))
            if events.row_ids is not None:
                arrays.append(_told(events.row_ids[part]))
            arrays += [pa.array(split[part]) for split in splits.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _told(values: NDArray[Any]) -> pa.Array:
    """The values, null where they are hidden."""
    return pa.array(values, mask=values == HIDDEN)
