"""Bring your own data: a table of items and one of interactions, as parquet or CSV, with pictures beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.sources import Source, event_batch, has_file
from modalrec.data.sources._columns import SUFFIXES, column_kind, find_columns, find_table, read_columns
from modalrec.data.sources._item_table import ItemColumns, ItemTable
from modalrec.errors import Problems

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = 10**11
"""Seconds since 1970 at the year 5138: larger ones are in another unit."""


class EventColumns(config.Config):
    """The columns of the interactions table; `timestamp` and `rating` may be missing under their default names."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str = "rating"


class Tables(Source):
    """Items and interactions from tables of the user's own."""

    class Config(config.Config):
        """Settings.

        Attributes:
            items: File of the items; by default the one named `items` with a known suffix.
            interactions: File of the interactions; by default the one named `interactions`.
            item_columns: Column names of the items.
            event_columns: Column names of the interactions.
            timestamp_unit: Of timestamps that are numbers; parquet timestamps know theirs.
            category_separator: Between the categories in one cell.
            images: Folder or zip in the source folder; by default `images` or `images.zip` where there is one. A
                picture is found by the `image` column, else by the item's id.
        """

        name: Literal["tables"] = "tables"
        items: str | None = None
        interactions: str | None = None
        item_columns: ItemColumns = ItemColumns()
        event_columns: EventColumns = EventColumns()
        timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
        category_separator: str = "|"
        images: str | None = None

    expects = "items and interactions, each .parquet, .csv or .tsv (.gz), and perhaps images/ or images.zip"

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.counts: dict[str, int] = {}
        self.items_file = find_table(folder, config.items, "items")
        self.events_file = find_table(folder, config.interactions, "interactions")
        self._items = ItemTable(self.items_file, config.item_columns, config.category_separator, config.images)
        self._events = find_columns(self.events_file, config.event_columns, ["user_id", "item_id"], "event_columns")
        kind = column_kind(self.events_file, self._events.get("timestamp"))
        self._per_second = 1 if kind and pa.types.is_temporal(kind) else PER_SECOND[config.timestamp_unit]
        self.has_timestamps = "timestamp" in self._events
        self.has_ratings = "rating" in self._events
        self.other_files = self._items.other_files

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder has both tables."""
        return all(has_file(folder, *(name + end for end in SUFFIXES)) for name in ("items", "interactions"))

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items, see `Source.items`."""
        yield from self._items.batches()

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, see `Source.interactions`."""
        types = {"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.float64(), "rating": pa.float32()}
        filled = ["user_id", "item_id", "timestamp"]
        problems = Problems(self.events_file)
        row = 0
        for batch in read_columns(self.events_file, self._events, types, filled):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            timestamps = columns.get("timestamp")
            if timestamps is not None:
                timestamps = pc.floor(pc.divide(timestamps, self._per_second))
                late = pc.greater(pc.abs(timestamps), LATEST).to_numpy(zero_copy_only=False)
                problems.extend(
                    [f"row {row + place + 1}, {self._events['timestamp']}" for place in late.nonzero()[0].tolist()],
                    f"is after the year 5000 when read in {self.config.timestamp_unit}",
                )
                timestamps = None if len(problems) else timestamps.cast(pa.int64())
            row += batch.num_rows
            if not len(problems):
                yield event_batch(columns["user_id"], columns["item_id"], timestamps, columns.get("rating"))
        problems.raise_if_any("Set timestamp_unit to ms, us or ns, or mend the times")

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._items.pictures
