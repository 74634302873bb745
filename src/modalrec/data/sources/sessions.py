"""Sessions: events with a session, an item and a time, in raw files or split into train and test already."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, field_validator, model_validator

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.sources import CONTEXT, Source, event_batch, has_file, item_batch
from modalrec.data.sources._columns import SUFFIXES, find_table
from modalrec.data.sources._item_table import ItemColumns, ItemTable
from modalrec.data.sources._session_files import (
    Table,
    check_columns,
    choose,
    delimiter_of,
    find_sessions,
    named_file,
    stem,
)
from modalrec.data.sources._times import ADVICE, check_form, milliseconds, type_for
from modalrec.errors import ConfigError, Problems

BATCH = 100_000
ENOUGH = 1_000
"""Problems after which a file is not read on: it is wrong throughout."""


class SessionColumns(config.Config):
    """The columns of the events by meaning; `session` or `user` may be null, not both.

    Attributes:
        session: The session. Null where only users are known: ingest's `session_gap` cuts them into sessions.
        item: The item.
        time: The time, see `time_format`.
        user: The user or visitor; with `session` too, equal session numbers of two users are two sessions.
        event_type: The kind of event, see `keep_types`.
        time_offset: Milliseconds since the session began; `time` is its date then, of which the session's first counts.
    """

    session: str | None = "SessionId"
    item: str = "ItemId"
    time: str = "Time"
    user: str | None = None
    event_type: str | None = None
    time_offset: str | None = None


class Sessions(Source):
    """Clicks and views in sessions.

    Raw files hold events of one stock of sessions and are split by ingest. Prepared files are a train file, perhaps a
    validation file, and test files; equal session numbers in two of them are two sessions. Items are those of the
    events in order of appearance, or come from a table of items beside them.
    """

    class Config(config.Config):
        """Settings. By default a folder's files are found by their columns and the ends of their names.

        Attributes:
            events: Raw files, in order.
            train: The prepared training file.
            valid: The prepared validation file, of sessions that are not in `train`; without one ingest cuts it off.
            test: The prepared test files.
            columns: Column names of the events.
            header: Column names of text files that have none in their first line.
            delimiter: Of text files; by default a tab in .txt and .tsv, a comma in others, or what their first line has
                instead of it.
            time_format: s, ms, us or ns since 1970, iso, or a pattern of strptime; parquet's times know theirs.
            time_resolution: What times are rounded down to; ms keeps order within a second.
            keep_types: Kinds of event that are kept.
            sessions_from: Which events `session_gap` cuts by: the kept ones, or those of other kinds too (all).
            items: Table of the items; by default the one named `items` where there is one.
            item_columns: Column names of the items.
            category_separator: Between the categories in one cell of the items.
            images: Folder or zip with pictures of the items, as in the source `tables`.
            allow_pickle: Read pickled DataFrames, by a reader that knows their data and runs nothing.
        """

        name: Literal["sessions"] = "sessions"
        events: tuple[str, ...] = ()
        train: str | None = None
        valid: str | None = None
        test: tuple[str, ...] = ()
        columns: SessionColumns = SessionColumns()
        header: tuple[str, ...] = ()
        delimiter: str | None = Field(default=None, min_length=1, max_length=1)
        time_format: str = "s"
        time_resolution: Literal["s", "ms"] = "ms"
        keep_types: tuple[str, ...] = ()
        sessions_from: Literal["kept", "all"] = "kept"
        items: str | None = None
        item_columns: ItemColumns = ItemColumns()
        category_separator: str = "|"
        images: str | None = None
        allow_pickle: bool = False

        @field_validator("events", "test", mode="before")
        @classmethod
        def _one_is_a_list(cls, value: Any) -> Any:
            return (value,) if isinstance(value, str) else value

        @model_validator(mode="after")
        def _possible(self) -> Self:
            if self.events and (self.train or self.valid or self.test):
                raise ValueError("events are raw files, train, valid and test are prepared ones; give one or the other")
            if bool(self.train) != bool(self.test) or (self.valid and not self.train):
                raise ValueError("prepared files are train and test, and perhaps valid; give both train and test")
            if not self.columns.session and not self.columns.user:
                raise ValueError("columns: session and user are both null; name one")
            if bool(self.keep_types) != bool(self.columns.event_type):
                raise ValueError("keep_types and columns.event_type belong together; set both")
            if len(set(self.header)) < len(self.header):
                raise ValueError("header: a name stands twice")
            check_form(self.time_format)
            return self

    expects = (
        "files with the columns SessionId, ItemId and Time (.txt, .tsv, .csv, .parquet), one of raw events, or one "
        "that ends in train_full (or train) and one in test"
    )
    has_timestamps = True
    has_ratings = False

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.counts: dict[str, int] = {}
        files: Mapping[str, Any] = {"events": config.events, "train": config.train, "test": config.test}
        files = {"valid": [config.valid]} | {**files, "train": [config.train]} if any(files.values()) else {}
        if not files:
            files = choose(find_sessions(folder), folder)
        named = {
            part: [named_file(folder, name, part) for name in files.get(part) or () if name]
            for part in ("events", "train", "valid", "test")
        }
        paths = [path for part in named.values() for path in part]
        self._tables = [
            Table(path, config.delimiter or delimiter_of(path), config.header, config.allow_pickle) for path in paths
        ]
        if named["train"]:
            self.parts = ("train", *(["valid"] if named["valid"] else []), *_test_names(named["test"]))
        raw = not self.parts
        self.suggested = {"splits": ("sessions",), "exact_repeats": "keep"} | {
            "min_user_events": 2 if raw else 1,
            "min_item_events": 5 if raw else 1,
        }
        self.per_second = 1000 if config.time_resolution == "ms" else 1
        self._context = config.sessions_from == "all" and bool(config.keep_types)
        self.has_roles = bool(self.parts) or self._context
        self._wanted = {meaning: column for meaning, column in dict(config.columns).items() if column}
        self._kinds = [check_columns(table, self._wanted) for table in self._tables]
        self.events_file = paths[0]
        self._items = self._find_items(folder)
        self.items_file = self._items.path if self._items else self.events_file
        self.other_files = (*paths[1:], *(self._items.other_files if self._items else ()))

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder has files of sessions, by their columns."""
        return bool(find_sessions(folder))

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items of the table, or those of all events, of any kind, in order of appearance."""
        if self._items:
            yield from self._items.batches()
            return
        column = self.config.columns.item
        schema = pa.schema([pa.field(column, pa.string(), nullable=self._context)])
        seen: dict[str, None] = {}
        for table in self._tables:
            for batch in table.read(schema):
                seen |= dict.fromkeys(batch.column(0).drop_null().unique().to_pylist())
        ids = list(seen)
        for begin in range(0, len(ids), BATCH):
            yield item_batch([{"item_id": item} for item in ids[begin : begin + BATCH]])

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, file by file, see `Source.interactions`."""
        self.counts["other_event_types"] = 0
        for place, (table, kinds) in enumerate(zip(self._tables, self._kinds, strict=True)):
            first_dates = self._first_dates(table, kinds) if self.config.columns.time_offset else None
            role = min(place, len(self.parts) - 1)
            problems = Problems(table.path)
            row = 0
            for batch in table.read(self._schema(kinds, list(self._wanted))):
                rows = dict(zip(self._wanted, batch.columns, strict=True))
                event = self._event(rows, self._times(rows, problems, row, first_dates), role, problems, row)
                row += batch.num_rows
                if len(problems) > ENOUGH:
                    break
                if event.num_rows and not len(problems):
                    yield event
            problems.raise_if_any(ADVICE)
        if not self.config.keep_types:
            self.counts.clear()

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._items.pictures if self._items else None

    def _find_items(self, folder: Path) -> ItemTable | None:
        given = self.config.items
        if given is None and not has_file(folder, *(f"items{suffix}" for suffix in SUFFIXES)):
            if self.config.images is not None:
                raise ConfigError(f"source.images: no table of items in {folder}; add items.csv, or leave images out")
            return None
        path = find_table(folder, given, "items")
        return ItemTable(path, self.config.item_columns, self.config.category_separator, self.config.images)

    def _schema(self, kinds: Mapping[str, pa.DataType], meanings: list[str]) -> pa.Schema:
        """The columns with some meanings, as a file of these column types is read."""
        types = dict.fromkeys(self._wanted, pa.string())
        types |= {"time": type_for(self.config.time_format, kinds["time"]), "time_offset": pa.float64()}
        open_ = {"event_type"} | ({"item"} if self._context else set())
        return pa.schema([pa.field(self._wanted[name], types[name], nullable=name in open_) for name in meanings])

    def _times(
        self, rows: Mapping[str, pa.Array], problems: Problems, row: int, first_dates: tuple[pa.Array, pa.Array] | None
    ) -> pa.Array:
        form, name = self.config.time_format, self.config.columns.time
        if first_dates is None:
            times = milliseconds(rows["time"], form, problems, name, row)
        else:
            keys, dates = first_dates
            offsets = pc.round(rows["time_offset"]).cast(pa.int64())
            times = pc.add(dates.take(pc.index_in(self._users(rows), keys)), offsets)
        return times if self.per_second > 1 else pc.floor(pc.divide(times.cast(pa.float64()), 1000)).cast(pa.int64())

    def _first_dates(self, table: Table, kinds: Mapping[str, pa.DataType]) -> tuple[pa.Array, pa.Array]:
        """The sessions of a file and the earliest date of each in milliseconds."""
        meanings = [name for name in self._wanted if name in ("session", "user", "time")]
        found: list[pa.Table] = []
        problems = Problems(table.path)
        row = 0
        for batch in table.read(self._schema(kinds, meanings)):
            rows = dict(zip(meanings, batch.columns, strict=True))
            form, name = self.config.time_format, self.config.columns.time
            times = milliseconds(rows["time"], form, problems, name, row)
            row += batch.num_rows
            one = pa.table({"user": self._users(rows), "time": times})
            found.append(one.group_by("user").aggregate([("time", "min")]).rename_columns(["user", "time"]))
        problems.raise_if_any(ADVICE)
        least = pa.concat_tables(found).group_by("user").aggregate([("time", "min")]).combine_chunks()
        keys, dates = (least.column(name).combine_chunks() for name in ("user", "time_min"))
        return keys, dates

    def _users(self, rows: Mapping[str, pa.Array]) -> pa.Array:
        """What names a session, or a user whose sessions are yet to be cut."""
        parts = [rows[name] for name in ("user", "session") if name in rows]
        return parts[0] if len(parts) == 1 else pc.binary_join_element_wise(*parts, "/")

    def _event(
        self, rows: dict[str, pa.Array], times: pa.Array, role: int, problems: Problems, row: int
    ) -> pa.RecordBatch:
        users, items = self._users(rows), rows["item"]
        roles = None
        if self.parts:
            # Equal numbers in two prepared files are two sessions.
            users = pc.binary_join_element_wise(pa.scalar(self.parts[role]), users, "/")
            roles = pa.array([role] * len(users), pa.int8())
        if not self.config.keep_types:
            return event_batch(users, items, times, roles=roles)
        kept = pc.is_in(rows["event_type"], pa.array(self.config.keep_types))
        self.counts["other_event_types"] += len(kept) - (pc.sum(kept).as_py() or 0)
        if not self._context:
            columns = (None if column is None else column.filter(kept) for column in (users, items, times, None, roles))
            return event_batch(*columns)
        empty = pc.and_(kept, pc.is_null(items)).to_numpy(zero_copy_only=False).nonzero()[0].tolist()
        problems.extend([f"row {row + place + 1}, {self.config.columns.item}" for place in empty], "is empty")
        roles = pc.if_else(kept, pa.scalar(0, pa.int8()) if roles is None else roles, pa.scalar(CONTEXT, pa.int8()))
        return event_batch(users, pc.fill_null(items, ""), times, roles=roles)


def _test_names(paths: list[Path]) -> list[str]:
    """Names of the test sets: the files' names without suffixes, as identifiers."""
    names = [
        "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in stem(path)) for path in paths
    ]
    names = [f"{name}_set" if name in ("train", "valid") else name for name in names]
    if len(set(names)) < len(names):
        raise ConfigError(f"source.test: {', '.join(path.name for path in paths)}: two have the same name; rename one")
    return names
