"""Interactions alone, as RecBole's atomic file `NAME.inter`: what MP4SR's datasets were published as.

Items are their ids, without a text: texts and pictures come as vectors, by `modalrec import embeddings`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from modalrec import config
from modalrec.data.delimited import read_delimited, read_header
from modalrec.data.sources import Source, event_batch, find_file, has_file, item_batch
from modalrec.errors import DataError

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
ROWS = 65_536
"""Items of a batch."""


class Atomic(Source):
    """A file of interactions whose columns are named `user_id:token`, between tabs or commas."""

    class Config(config.Config):
        """Nothing to set."""

        name: Literal["atomic"] = "atomic"

    expects = "one NAME.inter with the columns user_id:token, item_id:token and perhaps timestamp:float, rating:float"

    def __init__(self, config: Config, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self.events_file = self.items_file = find_file(folder, ["*.inter"], "interactions")
        self._delimiter = "\t"
        header = read_header(self.events_file, self._delimiter, quoting=False)
        if len(header) == 1:
            self._delimiter = ","
            header = read_header(self.events_file, self._delimiter, quoting=False)
        self._found = {column.partition(":")[0]: column for column in header}
        if not {"user_id", "item_id"} <= self._found.keys():
            raise DataError(
                f"{self.events_file}: line 1: expected user_id:token and item_id:token, between tabs or commas; found "
                f"{', '.join(header)}"
            )
        self.has_timestamps = "timestamp" in self._found
        self.has_ratings = "rating" in self._found

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder has interactions, and neither items nor sequences that another source reads."""
        return has_file(folder, "*.inter") and not has_file(folder, "*.item")

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items that have an interaction, in the order of their first ones; see `Source.items`."""
        seen: dict[str, None] = {}
        for batch in self.interactions():
            seen |= dict.fromkeys(batch["item_id"].dictionary_decode().to_pylist())
        names = list(seen)
        for begin in range(0, len(names), ROWS):
            yield item_batch([{"item_id": name, "title": name} for name in names[begin : begin + ROWS]])

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, see `Source.interactions`."""
        types = dict(zip(COLUMNS, (pa.string(), pa.string(), pa.float32(), pa.float64()), strict=True))
        names = [name for name in COLUMNS if name in self._found]
        schema = pa.schema([pa.field(self._found[name], types[name], nullable=False) for name in names])
        for batch in read_delimited(self.events_file, schema, self._delimiter, quoting=False):
            columns = dict(zip(names, batch.columns, strict=True))
            times = columns.get("timestamp")
            timestamps = None if times is None else pc.floor(times).cast(pa.int64())
            yield event_batch(columns["user_id"], columns["item_id"], timestamps, columns.get("rating"))
