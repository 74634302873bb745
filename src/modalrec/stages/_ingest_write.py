"""The last part of `ingest`: the tables of the dataset."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.data.events import Events

ROWS = 1_000_000
"""Rows of a row group of interactions."""


def write_tables(
    folder: Path,
    events: Events,
    splits: dict[str, NDArray[np.int8]],
    items: pa.Table,
    images: list[str],
    user_ids: list[str],
) -> None:
    """Writes items, users and interactions with a column for each split."""
    columns = [items[name] if name in items.column_names else pa.array(images) for name in ITEMS.names]
    pq.write_table(pa.Table.from_arrays(columns, schema=ITEMS), folder / "items.parquet")
    pq.write_table(pa.table([pa.array(user_ids, pa.string())], schema=USERS), folder / "users.parquet")
    starts = np.searchsorted(events.users, np.arange(len(user_ids)))
    schema = pa.schema([*INTERACTIONS, *(pa.field(f"split_{name}", pa.int8(), nullable=False) for name in splits)])
    with pq.ParquetWriter(folder / "interactions.parquet", schema) as writer:
        for begin in range(0, len(events), ROWS):
            part = slice(begin, begin + ROWS)
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
            arrays += [pa.array(split[part]) for split in splits.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
