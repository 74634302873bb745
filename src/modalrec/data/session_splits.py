"""The split by whole sessions: the last days for test, the days before them for validation.

Two published rules. `start` puts a session where it begins; train sessions that run past the cut are cut off there.
`end` puts a session where it ends and leaves it whole; validation and test lose events whose items training lacks.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modalrec import config
from modalrec.data.describe import count_part
from modalrec.data.events import Events
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, UNUSED, VALID
from modalrec.errors import ConfigError

DAY = 86_400
Mask = NDArray[np.bool_]


class SessionSplit(config.Config):
    """Where the split `sessions` cuts.

    Attributes:
        days: Days for test, the last ones, and as many before them for validation.
        by: `start`: a session belongs to the part in which it begins, and train sessions are cut off at the cut; or
            `end`: to the part in which it ends, and unseen items leave validation and test.
        until: Seconds since 1970 from which the days are counted back; by default the last event.
    """

    days: float = Field(default=1, gt=0)
    by: Literal["start", "end"] = "start"
    until: int | None = None


@dataclass(frozen=True)
class Drop:
    """Events that the rule takes away, why, and of how many sessions."""

    step: str
    interactions: int
    why: str
    sessions: int


@dataclass(frozen=True)
class Parts:
    """What a session split makes of events.

    Attributes:
        keep: [E] events of the dataset; the columns are of these alone.
        columns: Split columns by name, the first test set's first.
        drops: What is not kept.
        counts: Events, sessions and items of each published part, before unseen items leave the tests of rule `start`.
        cuts: Seconds at which validation and test begin, where this function cut them.
    """

    keep: Mask
    columns: dict[str, NDArray[np.int8]]
    drops: list[Drop]
    counts: dict[str, int]
    cuts: dict[str, int]


def split_sessions(events: Events, rule: SessionSplit, parts: tuple[str, ...] = ()) -> Parts:
    """Splits sorted events, whose users are sessions, by time; or takes over the parts that they came in.

    Args:
        events: Events with timestamps, and with roles where there are parts.
        rule: Where to cut. With parts it only cuts validation from train, and only where `valid` is not among them.
        parts: Names of the parts that roles number: train, perhaps valid, and the test sets.

    Raises:
        ConfigError: A part is left without events.
    """
    work = _Work(events, rule)
    tests = work.prepared(parts) if parts else work.cut_test()
    if "valid" not in parts:
        work.cut_valid()
    work.count("test", tests[0][1])
    for name, test in tests[1:]:
        work.count(name, test)
    kept = [(name, work.without_unseen(name, test)) for name, test in tests]
    return work.result(kept)


class _Work:
    """The parts as masks over all events, refined step by step."""

    def __init__(self, events: Events, rule: SessionSplit) -> None:
        if events.timestamps is None:
            raise ConfigError("splits: sessions needs times; use splits=[leave_one_out]")
        self.users, self.items, self.times, self.roles = events.users, events.items, events.timestamps, events.roles
        self.rule, self.per_second = rule, events.per_second
        self.days = round(rule.days * DAY * events.per_second)
        starts = events.starts()
        lengths = np.diff(np.append(starts, len(events)))
        self.first = np.repeat(self.times[starts], lengths)
        self.last = np.repeat(self.times[starts + lengths - 1], lengths)
        self.full = np.zeros(len(events), np.bool_)
        self.train, self.valid = self.full, self.full
        self.drops: list[Drop] = []
        self.counts: dict[str, int] = {}
        self.cuts: dict[str, int] = {}
        self.count("all", np.ones(len(events), np.bool_))

    def prepared(self, parts: tuple[str, ...]) -> list[tuple[str, Mask]]:
        """Train, perhaps validation, and the tests as they came."""
        if self.roles is None:
            raise ValueError("events of named parts have roles")
        masks = {name: self.roles == role for role, name in enumerate(parts)}
        self.full = self.train = masks.pop("train")
        self.valid = masks.pop("valid", np.zeros_like(self.full))
        self.full = self.full | self.valid
        if "valid" in parts:
            self.count("train_tr", self.train)
            self.count("train_valid", self.valid)
        tests = list(masks.items())
        self.end = self._end(self.times[self.full | tests[0][1]])
        return tests

    def cut_test(self) -> list[tuple[str, Mask]]:
        """The last days for test, all else for training."""
        self.end = self._end(self.times)
        cut = self.end - self.days
        self.cuts["test_cut"] = cut // self.per_second
        if self.rule.by == "start":
            test = self.first >= cut
            past = ~test & (self.times >= cut)
            self._drop("past_cut", past, "of train sessions that run on after the cut")
            self.full = self._long(~test & ~past, "short_train", "left alone in its train session by the cut")
        else:
            test = self.last >= cut
            self.full = ~test
        self._refuse_empty({"train": self.full, "test": test}, cut)
        if self.rule.by == "end":
            test = self.without_unseen("test", test)
        return [("test", test)]

    def cut_valid(self) -> None:
        """The last days of training for validation; what the rule leaves out between both is of full training only."""
        full = self.full
        if self.rule.by == "start":
            cut = self.end - 2 * self.days
            self.train = self._long(full & (self.times < cut))
            self.valid = full & (self.first >= cut)
        else:
            cut = int(self.times[full].max(initial=0)) - self.days
            self.train = full & (self.last < cut)
            self.valid = full & (self.last >= cut)
            self.valid = self._long(self.valid & self._known(self.train))
        self.cuts["valid_cut"] = cut // self.per_second
        self._refuse_empty({"train": self.train, "validation": self.valid}, cut)
        self.count("train_tr", self.train)
        self.count("train_valid", self.valid)

    def without_unseen(self, name: str, test: Mask) -> Mask:
        """A test set without items that training never saw, and without sessions that have one event then."""
        test = self._minus(
            test, test & ~self._known(self.full), f"unseen_{name}", f"of {name}: training lacks the item"
        )
        return self._long(test, f"short_{name}", f"left alone in its session of {name}")

    def count(self, name: str, inside: Mask) -> None:
        """Notes a part's size."""
        self.counts |= {f"{name}_{what}": n for what, n in count_part(self.users, self.items, inside).items()}

    def result(self, tests: list[tuple[str, Mask]]) -> Parts:
        """The columns: of the first test set, then of each other one."""
        self.count("train_full", self.full)
        keep = self.full.copy()
        columns = {}
        for place, (name, test) in enumerate(tests):
            if not test.any():
                raise ConfigError(f"splits: no event of {name} is left in the split sessions; see the counts above")
            keep |= test
            split = np.full(len(keep), UNUSED, np.int8)
            for mask, code in ((self.full, FULL_ONLY), (self.train, TRAIN), (self.valid, VALID), (test, TEST)):
                split[mask] = code
            columns["sessions" if place == 0 else f"sessions_{name}"] = split
        columns = {name: split[keep] for name, split in columns.items()}
        return Parts(keep, columns, self.drops, self.counts, self.cuts)

    def _end(self, times: NDArray[np.int64]) -> int:
        until = self.rule.until
        return int(times.max(initial=0)) if until is None else until * self.per_second

    def _known(self, training: Mask) -> Mask:
        seen = np.zeros(int(self.items.max(initial=-1)) + 1, np.bool_)
        seen[self.items[training]] = True
        return seen[self.items]

    def _long(self, part: Mask, step: str = "", why: str = "") -> Mask:
        """The part without sessions of which it has one event; noted as dropped where a step is named."""
        alone = part & (np.bincount(self.users[part], minlength=int(self.users.max(initial=-1)) + 1)[self.users] < 2)
        return self._minus(part, alone, step, why) if step else part & ~alone

    def _minus(self, part: Mask, gone: Mask, step: str, why: str) -> Mask:
        self._drop(step, gone, why)
        return part & ~gone

    def _drop(self, step: str, gone: Mask, why: str) -> None:
        if gone.any():
            counts = count_part(self.users, self.items, gone)
            self.drops.append(Drop(step, counts["events"], why, counts["sessions"]))

    def _refuse_empty(self, masks: dict[str, Mask], cut: int) -> None:
        empty = [name for name, mask in masks.items() if not mask.any()]
        if empty:
            begin, end = (
                int(time) // self.per_second for time in (self.times.min(initial=0), self.times.max(initial=0))
            )
            raise ConfigError(
                f"splits: sessions: no {' and no '.join(empty)} event when events from {begin} to {end} (seconds) are "
                f"cut at {cut // self.per_second}. Change session_split.days or session_split.until"
            )
