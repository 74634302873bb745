"""Labelled rows: a user, an item, a time, a label or a rating, and what the user did before.

They are read from the dataset in one pass, row group by row group, into columns on disk (`modalrec.data.columns`): the
memory that they take does not grow with their number. A history is a piece of one flat array, not an array of its
own, and holds only what came strictly before the row: events of the same second are not earlier.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, check_columns, read_table, stream
from modalrec.config import Config
from modalrec.data.columns import BLOCK, Columns, cuts
from modalrec.data.features import Features, Field, load_features
from modalrec.data.moments import FIELDS, Moments
from modalrec.data.popularity import LEVELS, TrainCounts, level
from modalrec.data.splits import TRAIN, UNTIMED, in_full
from modalrec.errors import ConfigError, DataError

# E rows, H entries of all histories.

HIDDEN = -1
"""Label of a row whose label is not known."""
Task = Literal["click", "rating"]


class RowsConfig(Config):
    """What becomes of rows when they are read.

    Attributes:
        history: Where the source gives no histories, a history holds what the user liked (label 1), all it did, or all
            with the label of each as a feature, `event_label`; that of the row itself is unknown. In splits that do
            not go by time it holds train rows alone, since others may be for test.
        popularity: Where the dataset's features do not tell how popular an item is, and times are known, count the
            item's train events strictly before each row, all of them and the liked ones, as levels from 0 to 10.
        moments: Where times are known, add what is known at the moment of each row; see `modalrec.data.moments`.
    """

    history: Literal["positive", "all", "labelled"] = "positive"
    popularity: bool = True
    moments: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of a dataset under one split, sorted by user and then by time.

    Attributes:
        users: [E] user indices.
        items: [E] item indices.
        labels: [E] 1, 0, or HIDDEN.
        split: [E] TRAIN, VALID or TEST.
        begins: [E] where the history of a row begins in `past`.
        ends: [E] where it ends.
        past: [H] item indices, oldest first.
        n_users: Number of users.
        n_items: Size of the catalogue.
        split_name: Name of the split.
        features: Of items and users, and the fields that `values` are of.
        values: By key of a field of events or rows: [E], at the time of the row.
        past_values: By key of a field of events: [H], at the time of the event in the history.
        ratings: [E], NaN where there is none, or None.
        timestamps: [E] seconds, or None where a time is missing.
        row_ids: [E] numbers that the source gave its rows, -1 where none, or None.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    labels: NDArray[np.int8]
    split: NDArray[np.int8]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    past: NDArray[np.int32]
    n_users: int
    n_items: int
    split_name: str
    features: Features = field(default_factory=Features)
    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    past_values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    ratings: NDArray[np.float32] | None = None
    timestamps: NDArray[np.int64] | None = None
    row_ids: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def where(self, holds: Callable[[slice], NDArray[np.bool_]]) -> NDArray[np.int64]:
        """The rows of which something holds, ascending; it is asked about one piece of the rows after the other."""
        found = Columns()
        for cut in cuts(len(self)):
            found.append("rows", cut.start + np.flatnonzero(holds(cut)), np.int64)
        return found.take("rows")

    def of(self, part: int, task: Task) -> NDArray[np.int64]:
        """The rows of a part of the split that tell what the task is about, ascending.

        Raises:
            DataError: The task is rating, and there are no ratings.
        """
        ratings = self.ratings
        if task == "click":
            return self.where(lambda cut: (self.split[cut] == part) & (self.labels[cut] != HIDDEN))
        if ratings is None:
            raise DataError("the dataset has no ratings; train on clicks, or ingest a source with ratings")
        return self.where(lambda cut: (self.split[cut] == part) & ~np.isnan(ratings[cut]))

    def trained(self) -> NDArray[np.int64]:
        """All rows for training, ascending."""
        return self.where(lambda cut: self.split[cut] == TRAIN)

    def hidden(self, part: int) -> NDArray[np.int64]:
        """The rows of a part whose labels are hidden, in the order of their `row_ids` where they have any."""
        rows = self.where(lambda cut: (self.split[cut] == part) & (self.labels[cut] == HIDDEN))
        return rows if self.row_ids is None else rows[np.argsort(self.row_ids[rows], kind="stable")]

    def moments(self) -> Moments | None:
        """What can tell of any user and item at any time, or None where times are not known."""
        if self.timestamps is None:
            return None
        return Moments(self.users, self.items, self.timestamps, self.trained())

    def trained_users(self) -> NDArray[np.bool_]:
        """[n_users] which users have a train row."""
        found, rows = np.zeros(self.n_users, bool), self.trained()
        for cut in cuts(len(rows)):
            found[self.users[rows[cut]]] = True
        return found

    def trained_items(self) -> NDArray[np.bool_]:
        """[n_items] which items are in a train row, or in the history of one."""
        found, rows = np.zeros(self.n_items, bool), self.trained()
        for cut in cuts(len(rows)):
            found[self.items[rows[cut]]] = True
            found[self.past[_covered(self.begins[rows[cut]], self.ends[rows[cut]])]] = True
        return found


def load_rows(dataset: Path, split: str, config: RowsConfig, with_valid: bool = False) -> Rows:
    """Reads the rows of a dataset.

    Args:
        dataset: The dataset.
        split: Its split.
        config: What becomes of the rows.
        with_valid: The validation part is for training too.

    Raises:
        ConfigError: The dataset has no such split.
        DataError: It has no labels.
        ArtifactError: A file is damaged.
    """
    path = dataset / "interactions.parquet"
    names = check_columns(path, INTERACTIONS)
    if f"split_{split}" not in names:
        known = ", ".join(name.removeprefix("split_") for name in names if name.startswith("split_"))
        raise ConfigError(f"split {split!r}: the dataset has only {known}; see `splits` of ingest")
    if "label" not in names:
        raise DataError(f"{path}: rows have no label; run `ingest` again with label.at_least, such as 4 of 5 stars")
    n_items = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"]).num_rows
    n_users = pq.read_metadata(dataset / "users.parquet").num_rows
    columns = Columns()
    with pq.ParquetFile(path) as file:
        timed = all(not batch.column(0).null_count for batch in stream(file, BLOCK, ["timestamp"]))
        reader = _Reader(columns, timed, "history" in names, config.history == "positive", split in UNTIMED)
        optional = [name for name in ("history", "row_id") if name in names]
        wanted = ["user", "item", "timestamp", "rating", "label", *optional]
        for batch in stream(file, BLOCK, [*wanted, f"split_{split}"]):
            part = batch.column(f"split_{split}").to_numpy()
            part = np.where(in_full(part), TRAIN, part) if with_valid else part
            reader.add({name: batch.column(name) for name in wanted}, part)
    rows = reader.finish(n_users, n_items, split, load_features(dataset, n_items, n_users))
    if config.history == "labelled" and not (reader.given or reader.positive):
        rows = _with_labels(rows, columns, reader)
    told = any(field.popularity for field in rows.features.fields)
    if config.popularity and not told:
        rows = _with_popularity(rows, columns, reader)
    return _with_moments(rows, columns) if config.moments else rows


class _Reader:
    """Turns batches of the table, which is sorted by user and position, into columns."""

    def __init__(self, columns: Columns, timed: bool, given: bool, positive: bool, train_only: bool) -> None:
        self.columns, self.timed, self.given, self.positive = columns, timed, given, positive
        self.train_only = train_only
        self.rated = False
        self._user, self._time = -1, -1
        self._kept = self._user_begin = self._time_begin = 0

    def kept(self, labels: NDArray[np.int8], split: NDArray[np.int8]) -> NDArray[np.bool_]:
        """[B] which rows later histories hold."""
        keep = labels == 1 if self.positive else np.ones(len(labels), bool)
        return keep & (split == TRAIN) if self.train_only else keep

    def add(self, batch: Mapping[str, Any], split: NDArray[np.int8]) -> None:
        users, items = (batch[name].to_numpy() for name in ("user", "item"))
        labels = batch["label"].fill_null(HIDDEN).to_numpy()
        times = batch["timestamp"].fill_null(0).to_numpy()
        put = self.columns.append
        put("users", users, np.int32)
        put("items", items, np.int32)
        put("labels", labels, np.int8)
        put("split", split, np.int8)
        put("timestamps", times, np.int64)
        put("ratings", batch["rating"].fill_null(np.nan).to_numpy(), np.float32)
        self.rated |= batch["rating"].null_count < len(users)
        if "row_id" in batch:
            put("row_ids", batch["row_id"].fill_null(-1).to_numpy(), np.int64)
        if self.given:
            self._add_given(batch["history"])
        else:
            self._add_derived(users, items, self.kept(labels, split), times)

    def _add_given(self, lists: Any) -> None:
        lengths = lists.value_lengths().fill_null(0).to_numpy()
        ends = self._kept + np.cumsum(lengths)
        self.columns.append("past", lists.flatten().to_numpy(), np.int32)
        self.columns.append("begins", ends - lengths, np.int64)
        self.columns.append("ends", ends, np.int64)
        self._kept += int(lengths.sum())

    def _add_derived(self, users: Any, items: Any, keep: Any, times: Any) -> None:
        before = self._kept + np.cumsum(keep) - keep
        new_user = users != np.append(self._user, users[:-1])
        # Without times the order is that of the file, and every row has a moment of its own.
        new_time = new_user | (times != np.append(self._time, times[:-1])) if self.timed else np.ones(len(users), bool)
        begins, ends = _filled(before, new_user, self._user_begin), _filled(before, new_time, self._time_begin)
        self.columns.append("past", items[keep], np.int32)
        self.columns.append("begins", begins, np.int64)
        self.columns.append("ends", ends, np.int64)
        if len(users):
            self._user, self._time = int(users[-1]), int(times[-1])
            self._kept += int(keep.sum())
            self._user_begin, self._time_begin = int(begins[-1]), int(ends[-1])

    def finish(self, n_users: int, n_items: int, split: str, features: Features) -> Rows:
        if "users" not in self.columns:
            raise DataError("the dataset has no interactions; see the reasons in its manifest")
        names = ("users", "items", "labels", "split", "begins", "ends", "past", "ratings", "timestamps", "row_ids")
        found: dict[str, Any] = {name: self.columns.take(name) for name in names if name in self.columns}
        if not self.timed:
            found["timestamps"] = None
        if not self.rated:
            found["ratings"] = None
        return Rows(**found, n_users=n_users, n_items=n_items, split_name=split, features=features)


def _with_labels(rows: Rows, columns: Columns, reader: _Reader) -> Rows:
    """Adds the label of every event of a history, 1 more than it is: 0 is unknown, as that of the row itself."""
    added = Field("label", "event", "category", 3)
    for cut in cuts(len(rows)):
        labels = rows.labels[cut]
        columns.append("unlabelled", np.zeros(len(labels)), np.uint8)
        kept = reader.kept(labels, rows.split[cut])
        columns.append("past_label", labels[kept] + 1, np.uint8)
    return replace(
        rows,
        features=rows.features.with_field(added),
        values={**rows.values, added.key: columns.take("unlabelled")},
        past_values={**rows.past_values, added.key: columns.take("past_label")},
    )


def _with_popularity(rows: Rows, columns: Columns, reader: _Reader) -> Rows:
    """Adds the levels of train events strictly before each row: `views_level` of all, `likes_level` of liked ones."""
    if rows.timestamps is None or reader.given:
        return rows
    liked = rows.where(lambda cut: (rows.split[cut] == TRAIN) & (rows.labels[cut] == 1))
    features, values, past_values = rows.features, dict(rows.values), dict(rows.past_values)
    for name, counted in (("views_level", rows.trained()), ("likes_level", liked)):
        added = Field(name, "event", "category", LEVELS, popularity=True)
        counts = TrainCounts(rows.items, rows.timestamps, counted)
        for cut in cuts(len(rows)):
            found = level(counts.before(rows.items[cut], rows.timestamps[cut]))
            columns.append(name, found, np.uint8)
            kept = reader.kept(rows.labels[cut], rows.split[cut])
            columns.append(f"past_{name}", found[kept], np.uint8)
        features = features.with_field(added)
        values[added.key], past_values[added.key] = columns.take(name), columns.take(f"past_{name}")
    return replace(rows, features=features, values=values, past_values=past_values)


def _with_moments(rows: Rows, columns: Columns) -> Rows:
    """Adds the fields of `modalrec.data.moments`."""
    moments = rows.moments()
    if moments is None or rows.timestamps is None:
        return rows
    for cut in cuts(len(rows)):
        for key, values in moments.at(rows.users[cut], rows.items[cut], rows.timestamps[cut]).items():
            columns.append(key, values, np.float32)
    features = rows.features
    for one in FIELDS:
        features = features.with_field(one)
    return replace(
        rows, features=features, values={**rows.values, **{one.key: columns.take(one.key) for one in FIELDS}}
    )


def _filled(values: NDArray[np.int64], flags: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """The value at the last flag up to each place; `before` where there is none yet."""
    last = np.maximum.accumulate(np.where(flags, np.arange(len(flags)), -1)) if len(flags) else flags.astype(np.int64)
    return np.where(last >= 0, values[last], before)


def _covered(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places from a begin to its end; those of one user overlap, so the longest alone counts."""
    order = np.lexsort((ends, begins))
    begins, ends = begins[order], ends[order]
    last = np.append(begins[1:] != begins[:-1], True) if len(begins) else np.zeros(0, bool)
    return pieces(begins[last], ends[last])


def pieces(begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of pieces of a flat array, one piece after the other."""
    lengths = ends - begins
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(begins - starts, lengths)
