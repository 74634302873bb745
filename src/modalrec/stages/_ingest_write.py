"""The last part of `ingest`: pictures and tables of the dataset."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.data.archives import BadFile
from modalrec.data.cards import draw_card
from modalrec.data.events import Events
from modalrec.data.images import ImageConfig, ImageWriter, decode, encode
from modalrec.data.sources import Source
from modalrec.errors import DataError, Problems
from modalrec.run import Run

ROWS = 1_000_000
"""Rows of a row group of interactions."""


def write_images(
    reader: Source, items: pa.Table, config: ImageConfig, folder: Path, run: Run
) -> tuple[list[str], dict[str, float], dict[str, Any]]:
    """Writes given and drawn pictures; returns each item's state, counts, and bad pictures by reason.

    Raises:
        DataError: Too many pictures are bad, or some are named and none are there.
    """
    archive = reader.pictures()
    if archive is None and items["picture"].null_count < items.num_rows:
        named = items.filter(pc.is_valid(items["picture"])).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{reader.items_file}: item {named['item_id']!r} names the picture {named['picture']!r}, and there is no "
            "folder `images` and no `images.zip` beside the file; add one, or leave the pictures out of the table"
        )
    states: list[str] = []
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    named = 0
    with ImageWriter(folder) as writer:
        for row, item in enumerate(run.track(items.to_pylist(), "pictures")):
            state, picture = "none", None
            if archive is not None and item["picture"] is not None:
                named += 1
                try:
                    name = archive.find(item["picture"])
                    if name is None:
                        raise BadFile("no such file")
                    picture = decode(archive.read(name, config.max_bytes), config.max_pixels, config.max_side)
                    state = "given"
                except BadFile as error:
                    reasons[str(error)] += 1
                    examples.append(f"item {item['item_id']}, {item['picture']}: {error}")
            if picture is None and config.missing == "draw":
                state, picture = "drawn", draw_card(item["title"], item["year"], item["categories"] or [])
            if picture is not None:
                writer.add(row, encode(picture, config.jpeg_quality), picture.size)
            states.append(state)
    bad = reasons.total()
    if archive is not None and bad > config.max_bad_share * named:
        problems = Problems(archive.path)
        for example in examples:
            problems.add("", example)
        problems.raise_if_any(
            f"{bad:,} of {named:,} pictures are bad, more than max_bad_share={config.max_bad_share:g}. Mend or raise it"
        )
    counts = Counter(states)
    numbers = {f"images_{state}": counts[state] for state in ("given", "drawn", "none")} | {"images_bad": bad}
    return states, dict(numbers), {"reasons": dict(sorted(reasons.items())), "examples": examples[:20]}


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
