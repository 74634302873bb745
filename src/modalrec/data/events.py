"""Events in compact arrays: collected batch by batch, sorted, and freed of repeats."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec.compiled import AVAILABLE
from modalrec.data._event_kernels import by_user, mark_repeats
from modalrec.data._numbering import Numbering
from modalrec.data.histories import Histories
from modalrec.data.names import as_names
from modalrec.data.sources import CONTEXT

PART = 1 << 18
"""Events that are moved at a time: a processor's cache holds them."""
SORTED = 1 << 12
"""Events that are sorted at a time: few enough for user, time and place to go into one number."""
HIDDEN = -1
"""The label of an event whose label is not told, and the number of a row that has none."""


@dataclass(frozen=True)
class Events:
    """Events as parallel arrays, 34 bytes each at most.

    Attributes:
        users: [E] numbers in order of first appearance.
        items: [E] rows of the items table, -1 where an event has none.
        timestamps: [E] ticks since 1970, or None where only the order is known.
        ratings: [E] NaN where there is none, or None.
        roles: [E] see `modalrec.data.sources.EVENT_ROWS`, or None.
        labels: [E] 1, 0 or `HIDDEN`, or None.
        row_ids: [E] the source's own numbers of rows, `HIDDEN` where there is none, or None.
        histories: [E] number of the history that came with the event, or None.
        per_second: Ticks in a second.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None
    roles: NDArray[np.int8] | None = None
    labels: NDArray[np.int8] | None = None
    row_ids: NDArray[np.int64] | None = None
    histories: NDArray[np.int32] | None = None
    per_second: int = 1

    def __len__(self) -> int:
        return len(self.users)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Events":
        """The events of a mask [E], or at places in an order."""
        if which.dtype == np.bool_ and which.all():
            return self
        return self._each(lambda column: column[which])

    def keep_only(self, kept: NDArray[np.bool_]) -> "Events":
        """The events of a mask [E], in the memory of all: this object is of no use any more."""
        return self if kept.all() else self._each(lambda column: _squeezed(column, kept))

    def _each(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> "Events":
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: change(column) for name, column in columns.items() if isinstance(column, np.ndarray)
        }
        return replace(self, **changed)

    def labelled(self, at_least: float) -> "Events":
        """With labels made of ratings: 1 from `at_least` on, 0 below, hidden where there is no rating.

        Raises:
            ValueError: The events have no ratings.
        """
        if self.ratings is None:
            raise ValueError("labels are made of ratings")
        labels = (self.ratings >= at_least).astype(np.int8)
        labels[np.isnan(self.ratings)] = HIDDEN
        return replace(self, labels=labels)

    def exact_repeats(self) -> NDArray[np.bool_]:
        """Which of the sorted events equal an earlier one in user, item, time, rating and label [E].

        Without timestamps nothing tells a repeated line from a repeated event: then none are.
        """
        repeats = np.zeros(len(self), np.bool_)
        if self.timestamps is None or len(self) < 2:
            return repeats
        told: list[NDArray[Any]] = [] if self.labels is None else [self.labels]
        told += [] if self.ratings is None else [self.ratings.view(np.int32)]
        if AVAILABLE:
            labels = np.zeros(0, np.int8) if self.labels is None else self.labels
            ratings = np.zeros(0, np.int32) if self.ratings is None else self.ratings.view(np.int32)
            left = mark_repeats(self.users, self.timestamps, self.items, ratings, labels, repeats)
        else:
            tie = (self.users[1:] == self.users[:-1]) & (self.timestamps[1:] == self.timestamps[:-1])
            left = np.append(tie, False) | np.append(False, tie)
        places = np.flatnonzero(left)
        columns = [column[places] for column in (*told, self.items, self.timestamps, self.users)]
        order = np.lexsort(columns)
        same = np.ones(max(0, len(order) - 1), np.bool_)
        for column in columns:
            same &= column[order][1:] == column[order][:-1]
        repeats[places[order[1:][same]]] = True
        return repeats

    def once(self, keep: Literal["first", "last"]) -> NDArray[np.bool_]:
        """Which of the sorted events are a user's first, or last, of their item [E]."""
        pairs = self.users.astype(np.int64) * (int(self.items.max(initial=0)) + 1) + self.items
        order = np.argsort(pairs, kind="stable")
        new = pairs[order][1:] != pairs[order][:-1]
        edge = np.append(True, new) if keep == "first" else np.append(new, True)
        chosen = np.zeros(len(self), np.bool_)
        chosen[order[edge[: len(order)]]] = True
        return chosen

    def repeats_in_a_row(self) -> NDArray[np.bool_]:
        """Which of the sorted events have the item of the user's event just before [E]."""
        same = (self.users[1:] == self.users[:-1]) & (self.items[1:] == self.items[:-1])
        return np.append(np.zeros(min(1, len(self)), np.bool_), same)

    def starts(self) -> NDArray[np.int64]:
        """Places of every user's first event."""
        return np.flatnonzero(np.append(np.ones(min(1, len(self)), np.bool_), self.users[1:] != self.users[:-1]))

    def cut_at_gaps(self, seconds: float) -> tuple["Events", NDArray[np.int32]]:
        """Sessions take the place of users: a longer silence than `seconds` between two events begins a new one.

        Returns:
            The events with sessions as users, and the user of every session [S].

        Raises:
            ValueError: The events have no times.
        """
        if self.timestamps is None:
            raise ValueError("sessions are cut by time")
        new = np.append(np.ones(min(1, len(self)), np.bool_), self.users[1:] != self.users[:-1])
        new[1:] |= np.diff(self.timestamps) > seconds * self.per_second
        return replace(self, users=(np.cumsum(new) - 1).astype(np.int32)), self.users[new]

    def by_start(self) -> NDArray[np.int64]:
        """The order [E] in which users follow each other by the time of their first event.

        Raises:
            ValueError: The events have no times.
        """
        if self.timestamps is None:
            raise ValueError("the start of a user is a time")
        starts = self.starts()
        lengths = np.diff(np.append(starts, len(self)))
        order = np.argsort(self.timestamps[starts], kind="stable")
        lengths = lengths[order]
        return np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(self))

    def renumbered(self) -> tuple["Events", NDArray[np.int64], NDArray[np.int64]]:
        """Users and items numbered without gaps, in the same order; and the old number of every new one."""
        users, new_users = _compact(self.users)
        items, new_items = _compact(self.items)
        found = self
        if len(users) < len(new_users):
            found = replace(found, users=new_users[self.users])
        if len(items) < len(new_items):
            found = replace(found, items=new_items[self.items])
        return found, users, items


class Column(NamedTuple):
    """Where an optional column of the rows goes: the array of `Events`, its type code, and what null becomes."""

    column: str
    code: str
    null: float


OPTIONAL = {
    "timestamp": Column("timestamps", "q", 0),
    "rating": Column("ratings", "f", float("nan")),
    "role": Column("roles", "b", 0),
    "label": Column("labels", "b", HIDDEN),
    "row_id": Column("row_ids", "q", HIDDEN),
}
"""Columns of `modalrec.data.sources.EVENT_ROWS` that not every source fills."""


@dataclass(frozen=True)
class Collected:
    """What came out of the batches besides the events.

    Attributes:
        user_ids: Names of the users, by number.
        rows: Rows read.
        unknown: Rows per item id that the items table does not hold.
    """

    user_ids: list[str]
    rows: int
    unknown: Counter[str]


def collect(
    batches: Iterable[pa.RecordBatch],
    item_rows: Mapping[str, int],
    *,
    keep: Collection[str],
    histories: Histories | None = None,
    per_second: int = 1,
    ties: NDArray[np.int32] | None = None,
) -> tuple[Events, Collected]:
    """Turns batches of `modalrec.data.sources.EVENT_ROWS` into sorted arrays, numbering users as they appear.

    Args:
        batches: The rows.
        item_rows: From item id to its row.
        keep: Columns of `OPTIONAL` to keep. Of timestamps and roles none may be null then; a rating that is null
            becomes NaN, a label or number of a row `HIDDEN`.
        histories: Takes the histories that come with the rows, where they are to be kept.
        per_second: Ticks of the timestamps in a second.
        ties: [items] rank by which a user's events of one time are sorted; by default as they came.

    Returns:
        The events of known items, by user, then time, then as they came; and what else was found. Context is kept
        whatever its item.
    """
    users, items = Numbering(), Numbering(item_rows)
    unknown: Counter[str] = Counter()
    # These grow in place; lists of chunks would need all memory twice when joined.
    columns: dict[str, Any] = {"users": array("i"), "items": array("i")}
    columns |= {OPTIONAL[name].column: array(OPTIONAL[name].code) for name in OPTIONAL if name in keep}
    if histories is not None:
        columns["histories"] = array("i")
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        numbers = items(batch.column("item_id"))
        known = numbers >= 0
        if "role" in keep:
            known |= batch.column("role").to_numpy() == CONTEXT
        if not known.all():
            unknown.update(as_names(batch.column("item_id").filter(pa.array(~known))).to_pylist())
        found = {"items": numbers, "users": users(batch.column("user_id"))}
        for name in OPTIONAL:
            if name in keep:
                column, _, null = OPTIONAL[name]
                found[column] = batch.column(name).fill_null(null).to_numpy()
        if histories is not None:
            first = len(histories)
            histories.add(batch.column("history"), item_rows)
            found["histories"] = np.arange(first, len(histories), dtype=np.int32)
        for column, values in found.items():
            columns[column].frombytes(np.ascontiguousarray(values if known.all() else values[known]).view(np.uint8))
    return _sorted(columns, per_second, ties), Collected(list(users.numbers), rows, unknown)


def _sorted(columns: dict[str, Any], per_second: int, ties: NDArray[np.int32] | None) -> Events:
    """Events by user, then time, then as they came: some users at a time, in the memory that they are in."""
    for name in columns:
        columns[name] = np.frombuffer(columns[name], columns[name].typecode)
    if (columns["users"][1:] < columns["users"][:-1]).any():
        order = _by_user(columns["users"])
        for name in columns:
            columns[name] = columns[name][order]
    begin = 0
    for end in _ends(columns["users"]):
        part = {name: column[begin:end] for name, column in columns.items()}
        keys = [part["users"], *([part["timestamps"]] if "timestamps" in part else [])]
        order = stable_order(*keys, *([] if ties is None else [np.append(ties, np.int32(-1))[part["items"]]]))
        for values in part.values():
            values[:] = values[order]
        begin = end
    return Events(**columns, per_second=per_second)


def stable_order(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """The order [E] by the first key [E] of whole numbers, then the next, then as they came.

    Keys of few enough bits are sorted as one number, with the place behind them: several times as fast.
    """
    places = np.arange(len(keys[0]))
    if not len(places):
        return places
    least = [int(key.min()) for key in keys]
    bits = [(int(key.max()) - low).bit_length() for key, low in zip(keys, least, strict=True)]
    behind = len(places).bit_length()
    if sum(bits) + behind > 63:
        return np.lexsort(keys[::-1])
    packed = np.zeros(len(places), np.int64)
    for key, low, width in zip(keys, least, bits, strict=True):
        packed <<= width
        packed |= key - np.int64(low)
    packed <<= behind
    packed |= places
    packed.sort()
    return packed & ((1 << behind) - 1)


def _by_user(users: NDArray[np.int32]) -> NDArray[np.int64]:
    return by_user(users, int(users.max()) + 1) if AVAILABLE else np.argsort(users, kind="stable")


def _ends(users: NDArray[np.int32]) -> Iterator[int]:
    """Where some users' events end, some `SORTED` of them after the last such place; the last is the end of all."""
    end = 0
    while end < len(users):
        last = users[min(end + SORTED, len(users)) - 1]
        end = int(np.searchsorted(users, last, side="right"))
        yield end


def _squeezed(column: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[Any]:
    """What a mask keeps, moved to the front of the column."""
    count = 0
    for begin in range(0, len(column), PART):
        found = column[begin : begin + PART][kept[begin : begin + PART]]
        column[count : count + len(found)] = found
        count += len(found)
    return column[:count]


def _compact(numbers: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    used = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
    used[numbers] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1).astype(np.int32)
