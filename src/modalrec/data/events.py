"""Events in compact arrays: collected batch by batch, sorted, and freed of repeats."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Events:
    """Events as parallel arrays, 20 bytes each.

    Attributes:
        users: [E] numbers in order of first appearance.
        items: [E] rows of the items table.
        timestamps: [E] seconds since 1970, or None where only the order is known.
        ratings: [E] NaN where there is none, or None.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    timestamps: NDArray[np.int64] | None = None
    ratings: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Events":
        """The events of a mask [E], or at places in an order."""
        if which.dtype == np.bool_ and which.all():
            return self
        return Events(
            self.users[which],
            self.items[which],
            None if self.timestamps is None else self.timestamps[which],
            None if self.ratings is None else self.ratings[which],
        )

    def exact_repeats(self) -> NDArray[np.bool_]:
        """Which of the sorted events equal an earlier one in user, item, time and rating [E].

        Without timestamps nothing tells a repeated line from a repeated event: then none are.
        """
        repeats = np.zeros(len(self), np.bool_)
        if self.timestamps is None or len(self) < 2:
            return repeats
        tie = (self.users[1:] == self.users[:-1]) & (self.timestamps[1:] == self.timestamps[:-1])
        places = np.flatnonzero(np.append(tie, False) | np.append(False, tie))
        columns: list[NDArray[Any]] = [self.items[places], self.timestamps[places], self.users[places]]
        if self.ratings is not None:
            columns.insert(0, self.ratings[places].view(np.int32))
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

    def renumbered(self) -> tuple["Events", NDArray[np.int64], NDArray[np.int64]]:
        """Users and items numbered without gaps, in the same order; and the old number of every new one."""
        users, new_users = _compact(self.users)
        items, new_items = _compact(self.items)
        return replace(self, users=new_users[self.users], items=new_items[self.items]), users, items


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
    batches: Iterable[pa.RecordBatch], item_rows: Mapping[str, int], *, timestamps: bool, ratings: bool
) -> tuple[Events, Collected]:
    """Turns batches of `modalrec.data.sources.EVENT_ROWS` into sorted arrays, numbering users as they appear.

    Args:
        batches: Rows with user_id, item_id, timestamp and rating.
        item_rows: From item id to its row.
        timestamps: Keep timestamps; none may be null then.
        ratings: Keep ratings; null becomes NaN.

    Returns:
        The events of known items, by user, then time, then as they came; and what else was found.
    """
    user_numbers: dict[str, int] = {}
    unknown: Counter[str] = Counter()
    # These grow in place; lists of chunks would need all memory twice when joined.
    columns: dict[str, array[Any]] = {"users": array("i"), "items": array("i")}
    if timestamps:
        columns["timestamps"] = array("q")
    if ratings:
        columns["ratings"] = array("f")
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        numbers = _numbers(batch.column("item_id").dictionary_encode(), item_rows)
        known = numbers >= 0
        if not known.all():
            unknown.update(batch.column("item_id").filter(pa.array(~known)).to_pylist())
        columns["items"].frombytes(numbers[known].tobytes())
        names = batch.column("user_id").dictionary_encode()
        for name in names.dictionary.to_pylist():
            user_numbers.setdefault(name, len(user_numbers))
        columns["users"].frombytes(_numbers(names, user_numbers)[known].tobytes())
        if timestamps:
            columns["timestamps"].frombytes(batch.column("timestamp").to_numpy()[known].tobytes())
        if ratings:
            scores = pc.fill_null(batch.column("rating"), float("nan"))
            columns["ratings"].frombytes(scores.to_numpy()[known].tobytes())
    return _sorted(columns), Collected(list(user_numbers), rows, unknown)


def _numbers(names: pa.DictionaryArray, numbers: Mapping[str, int]) -> NDArray[np.int32]:
    """The number of every name, -1 where it has none."""
    table = np.array([numbers.get(name, -1) for name in names.dictionary.to_pylist()], np.int32)
    return table[names.indices.to_numpy()]


def _sorted(columns: dict[str, Any]) -> Events:
    """Events by user, then time, then as they came; lets go of each column as soon as it is sorted."""
    for name in columns:
        columns[name] = np.frombuffer(columns[name], columns[name].typecode)
    keys = (columns["timestamps"], columns["users"]) if "timestamps" in columns else (columns["users"],)
    order = np.lexsort(keys)
    del keys
    for name in columns:
        columns[name] = columns[name][order]
    return Events(**columns)


def _compact(numbers: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    used = np.zeros(int(numbers.max(initial=-1)) + 1, np.bool_)
    used[numbers] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1).astype(np.int32)
