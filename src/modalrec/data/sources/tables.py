"""Bring your own data: a table of items and one of interactions, as parquet or CSV, with pictures beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import model_validator

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.names import as_lists_of_names
from modalrec.data.sources import Source, event_batch, has_file
from modalrec.data.sources._columns import SUFFIXES, column_kind, find_columns, find_table, read_columns
from modalrec.data.sources._features import FeatureColumns, FeatureKind, split_cells
from modalrec.data.sources._item_table import ItemColumns, ItemTable
from modalrec.errors import Problems

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
PARTS = ("train", "valid", "test")
LATEST = 10**11
"""Seconds since 1970 at the year 5138: larger ones are in another unit."""


class EventColumns(config.Config):
    """The columns of the interactions table; all but the two ids may be missing under their default names.

    Attributes:
        label: 1 or 0, or empty where it is hidden; rows of the part `test` are for prediction then.
        history: The ids of the items before the row, oldest first.
        part: train, valid or test, where the rows come split.
        row_id: The number by which a prediction of the row is asked for.
    """

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str = "rating"
    label: str = "label"
    history: str = "history"
    part: str = "part"
    row_id: str = "row_id"


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
            category_separator: Between the categories, or the ids of a history, in one cell.
            item_features: Columns of the items table that are features, and what they hold: one category, a bag of
                categories, or a number.
            users: File of the users; by default the one named `users` with a known suffix, where user_features are
                asked for.
            user_features: The same of the users table, whose column `user_id` names them.
            popularity: Item features among them that tell how popular an item is.
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
        item_features: dict[str, FeatureKind] = {}
        users: str | None = None
        user_features: dict[str, FeatureKind] = {}
        popularity: tuple[str, ...] = ()
        images: str | None = None

        @model_validator(mode="after")
        def _possible(self) -> "Tables.Config":
            if unknown := sorted(set(self.popularity) - set(self.item_features)):
                raise ValueError(f"popularity: {', '.join(unknown)} is not among item_features")
            return self

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
        self.has_labels, self.has_histories = "label" in self._events, "history" in self._events
        self.has_row_ids, self.has_roles = "row_id" in self._events, "part" in self._events
        self.parts = PARTS if self.has_roles else ()
        self.popularity = frozenset(config.popularity)
        if self.has_labels:
            # Rows with labels are what was shown, and every one of them counts.
            self.suggested = {"min_user_events": 1, "min_item_events": 1, "exact_repeats": "keep"}
        if self.parts:
            self.suggested = {**self.suggested, "splits": ("given",)}
        if self.has_histories:
            self.suggested = {**self.suggested, "keep_cold_items": True}
        self._users_file = find_table(folder, config.users, "users") if config.user_features else None
        self.other_files = self._items.other_files + ((self._users_file,) if self._users_file else ())
        separator = config.category_separator
        item_id = config.item_columns.item_id
        self._item_features = FeatureColumns.find(self.items_file, item_id, config.item_features, separator)
        self._user_features = FeatureColumns.find(self._users_file, "user_id", config.user_features, separator)

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
        types |= {"label": pa.float32(), "history": pa.string(), "part": pa.string(), "row_id": pa.int64()}
        kind = column_kind(self.events_file, self._events.get("history"))
        if kind and pa.types.is_nested(kind):
            types["history"] = pa.list_(pa.string())
        filled = ["user_id", "item_id", "timestamp", "part"]
        problems = Problems(self.events_file)
        row = 0
        for batch in read_columns(self.events_file, self._events, types, filled):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            times = self._times(columns.get("timestamp"), row, problems)
            roles = self._roles(columns.get("part"), row, problems)
            labels = self._labels(columns.get("label"), row, problems)
            histories = columns.get("history")
            if histories is not None and not pa.types.is_nested(histories.type):
                histories = split_cells(histories, self.config.category_separator)
            if histories is not None:
                histories = as_lists_of_names(histories)
            row += batch.num_rows
            if not len(problems):
                users, items, ratings = columns["user_id"], columns["item_id"], columns.get("rating")
                yield event_batch(users, items, times, ratings, roles, labels, histories, columns.get("row_id"))
        problems.raise_if_any("Set timestamp_unit to ms, us or ns, or mend these rows")

    def item_features(self) -> pa.Table | None:
        """The columns that are named as features, see `Source.item_features`."""
        return self._item_features.read() if self._item_features else None

    def user_features(self) -> pa.Table | None:
        """The same of the users, see `Source.user_features`."""
        return self._user_features.read() if self._user_features else None

    def _times(self, times: pa.Array | None, row: int, problems: Problems) -> pa.Array | None:
        if times is None:
            return None
        times = pc.floor(pc.divide(times, self._per_second))
        late = pc.greater(pc.abs(times), LATEST).to_numpy(zero_copy_only=False)
        self._note(
            "timestamp", late, row, f"is after the year 5000 when read in {self.config.timestamp_unit}", problems
        )
        return None if len(problems) else times.cast(pa.int64())

    def _roles(self, parts: pa.Array | None, row: int, problems: Problems) -> pa.Array | None:
        if parts is None:
            return None
        roles = pc.index_in(parts, pa.array(PARTS))
        self._note(
            "part", roles.is_null().to_numpy(zero_copy_only=False), row, f"is none of {', '.join(PARTS)}", problems
        )
        return roles.cast(pa.int8())

    def _labels(self, labels: pa.Array | None, row: int, problems: Problems) -> pa.Array | None:
        if labels is None:
            return None
        wrong = pc.fill_null(pc.and_(pc.not_equal(labels, 0.0), pc.not_equal(labels, 1.0)), False)
        self._note("label", wrong.to_numpy(zero_copy_only=False), row, "is neither 0 nor 1", problems)
        return None if len(problems) else labels.cast(pa.int8())

    def _note(self, name: str, wrong: NDArray[np.bool_], row: int, what: str, problems: Problems) -> None:
        problems.extend([f"row {row + place + 1}, {self._events[name]}" for place in wrong.nonzero()[0].tolist()], what)

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._items.pictures
