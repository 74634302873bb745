"""Users' histories as one flat array with offsets: what every recommender and the evaluator read."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, read_table
from modalrec.data.splits import FULL_ONLY, TRAIN, UNUSED, VALID, in_full
from modalrec.errors import ConfigError

Events = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int8]]
"""Items, offsets and split of `Sequences`."""


@dataclass(frozen=True)
class Targets:
    """What is to be recommended after a history: a user's last event of a split, or each of them.

    Attributes:
        users: [B] user indices, ascending.
        items: [B] item indices.
        ends: [B] positions in `Sequences.items`, ascending: the history is the user's events before it.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.users)

    def sample(self, size: int, rng: np.random.Generator) -> "Targets":
        """At most `size` of the targets, in their order."""
        if len(self) <= size:
            return self
        return self.take(np.sort(rng.choice(len(self), size, replace=False)))

    def take(self, rows: NDArray[np.int64]) -> "Targets":
        """The targets of these rows."""
        return Targets(self.users[rows], self.items[rows], self.ends[rows])


@dataclass(frozen=True)
class Sequences:
    """The interactions of a dataset in each user's order, under one split.

    Events of no part (UNUSED, FULL_ONLY) are left out on construction: they are nobody's history and nobody's target.
    Users keep their numbers, also where no event of theirs is left.

    Attributes:
        items: [E] item index of every event, users one after the other.
        offsets: [U + 1]; user u owns events `offsets[u]:offsets[u + 1]`.
        split: [E] TRAIN, VALID or TEST of every event.
        n_items: Size of the catalogue.
        split_name: Name of the split, such as leave_one_out; sessions_<name> is that of a further test set.
        starts: [U] time of every user's first event in seconds, or None where only the order is known.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]
    split: NDArray[np.int8]
    n_items: int
    split_name: str
    starts: NDArray[np.int64] | None = None
    _whole: Events | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        used = (self.split != UNUSED) & (self.split != FULL_ONLY)
        if not used.all():
            vars(self)["_whole"] = self.items, self.offsets, self.split
            items, offsets, split = self._where(used)
            vars(self).update(items=items, offsets=offsets, split=split)

    @classmethod
    def load(cls, dataset: Path, split: str) -> "Sequences":
        """Reads the interactions of a dataset artifact.

        Raises:
            ConfigError: The dataset has no such split.
        """
        table = read_table(dataset / "interactions.parquet", INTERACTIONS)
        column = f"split_{split}"
        if column not in table.column_names:
            known = [name.removeprefix("split_") for name in table.column_names if name.startswith("split_")]
            raise ConfigError(f"split {split!r}: the dataset has only {', '.join(known)}; see `splits` of ingest")
        users = table["user"].to_numpy()
        n_users = int(users[-1]) + 1 if len(users) else 0
        offsets = np.searchsorted(users, np.arange(n_users + 1)).astype(np.int64)
        n_items = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"]).num_rows
        starts = None
        if len(users) and table["timestamp"].null_count == 0:
            starts = table["timestamp"].to_numpy()[np.minimum(offsets[:-1], len(users) - 1)]
        return cls(table["item"].to_numpy(), offsets, table[column].to_numpy(), n_items, split, starts)

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.offsets) - 1

    def train(self) -> "Sequences":
        """The train events alone; users keep their numbers and may be left without events."""
        return self.keep(self.split == TRAIN)

    def keep(self, events: NDArray[np.bool_]) -> "Sequences":
        """Some of the events, by a flag each; users keep their numbers and may be left without events."""
        items, offsets, split = self._where(events)
        return replace(self, items=items, offsets=offsets, split=split)

    def with_valid(self) -> "Sequences":
        """All training events, none cut off for validation: VALID and FULL_ONLY become TRAIN, for a final model.

        Of sequences as they were loaded; what was left out for training is gone from what is derived from them.
        """
        items, offsets, split = self._whole or (self.items, self.offsets, self.split)
        return replace(self, items=items, offsets=offsets, split=np.where(in_full(split), TRAIN, split).astype(np.int8))

    def known(self) -> "Sequences":
        """Without the events that are not for training and whose item has no train event."""
        return self.keep((self.split == TRAIN) | (self.train_counts() > 0)[self.items])

    def targets(self, split: int, every: bool = False) -> Targets:
        """Each user's last event of a split, with all earlier events of the user as its history.

        A target without an earlier event is left out; `cold_users` counts the users who have no other.

        Args:
            split: VALID or TEST.
            every: Each event of the split is a target, not only the user's last one: every next item of a session.
        """
        positions = np.flatnonzero(self.split == split) if every else self._last_of(split)
        users = np.searchsorted(self.offsets, positions, side="right") - 1
        warm = positions > self.offsets[users]
        users, positions = users[warm], positions[warm]
        return Targets(users.astype(np.int32), self.items[positions], positions)

    def cold_users(self, split: int) -> int:
        """Users of a split without a target: their only event of it is their first event at all."""
        return len(self._last_of(split)) - len(self.targets(split))

    def histories(self, targets: Targets, length: int | None = None) -> list[NDArray[np.int32]]:
        """The items before each target, oldest first; the last `length` of them where given."""
        starts = self.offsets[targets.users]
        if length is not None:
            starts = np.maximum(starts, targets.ends - length)
        return [self.items[start:end] for start, end in zip(starts, targets.ends, strict=True)]

    def shuffled(self, rng: np.random.Generator, before: int = VALID) -> "Sequences":
        """The same events with the order inside every history destroyed; targets stay in place.

        A model that is not worse on this has learnt nothing from the order.

        Args:
            rng: Draws the new order.
            before: Events of splits before this one are moved: VALID to train, TEST to rank test targets.
        """
        keys = rng.random(len(self.items))
        users = np.repeat(np.arange(self.n_users), np.diff(self.offsets))
        places = np.flatnonzero(self.split < before)
        order = places[np.lexsort((keys[places], users[places]))]
        items = self.items.copy()
        items[places] = self.items[order]
        return replace(self, items=items)

    def train_counts(self) -> NDArray[np.int64]:
        """[n_items] train events per item."""
        return np.bincount(self.items[self.split == TRAIN], minlength=self.n_items)

    def _where(self, events: NDArray[np.bool_]) -> Events:
        kept_before = np.concatenate([[0], np.cumsum(events)]).astype(np.int64)
        return self.items[events], kept_before[self.offsets], self.split[events]

    def _last_of(self, split: int) -> NDArray[np.int64]:
        places = np.flatnonzero(self.split == split)
        until = np.searchsorted(places, self.offsets)
        return places[until[1:][until[1:] > until[:-1]] - 1]
