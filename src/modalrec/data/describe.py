"""What is to be known of a dataset before any result on it is believed: its order in time, and its splits."""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.counting import present
from modalrec.data.sequences import Sequences
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, VALID

WEAK = 0.1
"""Share of equal neighbouring times from which the order is called weak: there the order is that of the file."""


def describe_order(
    users: NDArray[np.int32], timestamps: NDArray[np.int64] | None, per_second: int = 1
) -> dict[str, float]:
    """How far times order the events of a user.

    Ratings entered in one sitting share times, so that sequence models learn little from them.

    Args:
        users: [E] user of every event, sorted.
        timestamps: [E] ticks, sorted within a user, or None.
        per_second: Ticks in a second.

    Returns:
        `median_user_span_hours`, `equal_time_share` of neighbouring events of a user, and `order_is_weak`, 0 or 1;
        nothing without times.
    """
    if timestamps is None or not len(users):
        return {}
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    ends = np.append(starts[1:], len(users)) - 1
    inside = users[1:] == users[:-1]
    equal = float((timestamps[1:] == timestamps[:-1])[inside].mean()) if inside.any() else 0.0
    return {
        "median_user_span_hours": round(float(np.median(timestamps[ends] - timestamps[starts])) / 3600 / per_second, 4),
        "equal_time_share": round(equal, 4),
        "order_is_weak": float(equal > WEAK),
    }


def describe_split(
    users: NDArray[np.int32], items: NDArray[np.int32], split: NDArray[np.int8], n_items: int
) -> dict[str, float]:
    """Counts events and targets of a split, and the targets that are out of a model's reach.

    Args:
        users: [E] user of every event, sorted.
        items: [E] item of every event.
        split: [E] TRAIN, VALID or TEST.
        n_items: Size of the catalogue.

    Returns:
        For valid and test: `events`, `targets`, `cold_users` (their target is their first event, so that they are left
        out), `users_without_train` (nothing of their history is in training) and `unseen_items` (targets whose item is
        not in training).
    """
    offsets = np.searchsorted(users, np.arange(int(users[-1]) + 2, dtype=users.dtype)).astype(np.int64)
    sequences = Sequences(items, offsets, split, n_items, "")
    train = split == TRAIN
    seen, trained = present(items, train, n_items), present(users, train, sequences.n_users)
    facts: dict[str, float] = {"train_events": int(np.count_nonzero(train))}
    for name, part in (("valid", VALID), ("test", TEST)):
        targets = sequences.targets(part)
        facts |= {
            f"{name}_events": int(np.count_nonzero(split == part)),
            f"{name}_targets": len(targets),
            f"{name}_cold_users": sequences.cold_users(part),
            f"{name}_users_without_train": int((~trained[targets.users]).sum()),
            f"{name}_unseen_items": int((~seen[targets.items]).sum()),
        }
    return facts


def describe_sessions(
    users: NDArray[np.int32], items: NDArray[np.int32], split: NDArray[np.int8], n_items: int
) -> dict[str, float]:
    """Counts sessions of a split by whole sessions; every event but a session's first is a target.

    Args:
        users: [E] session of every event, sorted.
        items: [E] item of every event.
        split: [E] TRAIN, VALID, TEST, FULL_ONLY or UNUSED.
        n_items: Size of the catalogue.

    Returns:
        For train, valid and test: `events`, `sessions`, `items` and `targets`; for valid and test also `unseen_items`,
        targets whose item is not in training; and `full_only_events`.
    """
    seen = present(items, split == TRAIN, n_items)
    facts: dict[str, float] = {}
    for name, part in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        inside = split == part
        counts = count_part(users, items, inside)
        facts |= {f"{name}_{what}": count for what, count in counts.items()}
        facts[f"{name}_targets"] = counts["events"] - counts["sessions"]
        if part != TRAIN:
            later = np.append(False, users[inside][1:] == users[inside][:-1])[: counts["events"]]
            facts[f"{name}_unseen_items"] = int((~seen[items[inside][later]]).sum())
    facts["full_only_events"] = int((split == FULL_ONLY).sum())
    return facts


def describe_rows(
    users: NDArray[np.int32], items: NDArray[np.int32], labels: NDArray[np.int8] | None, split: NDArray[np.int8],
    n_items: int,
) -> dict[str, float]:  # fmt: skip
    """Counts the rows of a split that is not by time; every row is a target.

    Args:
        users: [E] user of every row, sorted.
        items: [E] item of every row.
        labels: [E] 1, 0 or -1 where it is hidden, or None.
        split: [E] TRAIN, VALID, TEST or UNUSED.
        n_items: Size of the catalogue.

    Returns:
        For train, valid and test: `rows`, and with labels `positives` and `hidden`; for valid and test also
        `users_without_train` and `unseen_items`, rows whose user or item is not in training.
    """
    train = split == TRAIN
    seen, trained = present(items, train, n_items), present(users, train, int(users[-1]) + 1)
    facts: dict[str, float] = {}
    for name, part in (("train", TRAIN), ("valid", VALID), ("test", TEST)):
        inside = split == part
        facts[f"{name}_rows"] = int(inside.sum())
        if labels is not None:
            facts[f"{name}_positives"] = int((labels[inside] == 1).sum())
            facts[f"{name}_hidden"] = int((labels[inside] < 0).sum())
        if part != TRAIN:
            facts[f"{name}_users_without_train"] = int((~trained[users[inside]]).sum())
            facts[f"{name}_unseen_items"] = int((~seen[items[inside]]).sum())
    return facts


def count_part(users: NDArray[np.int32], items: NDArray[np.int32], inside: NDArray[np.bool_]) -> dict[str, int]:
    """Events, sessions and distinct items of a part."""
    present = [int(np.count_nonzero(np.bincount(numbers[inside]))) for numbers in (users, items)]
    return {"events": int(inside.sum()), "sessions": present[0], "items": present[1]}
