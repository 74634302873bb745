"""Filters on events: users and items need enough of them, in all that is left or as counted once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalrec.data.counting import count


@dataclass(frozen=True)
class Round:
    """What one round of the core filter took away: users and items that have no event any more, and events."""

    users: int
    items: int
    interactions: int


def k_core(
    users: NDArray[np.int32], items: NDArray[np.int32], min_user_events: int, min_item_events: int
) -> tuple[NDArray[np.bool_], list[Round]]:
    """Drops users and items with too few events, again and again, until all that are left have enough.

    The result is the largest such set of events and does not depend on the order of dropping.

    Args:
        users: [E] user of every event.
        items: [E] item of every event.
        min_user_events: Events that each user must have.
        min_item_events: Events that each item must have.

    Returns:
        Which events stay [E], and what each round took away.
    """
    counts = [count(users), count(items)]
    keep = np.ones(len(users), np.bool_)
    rounds: list[Round] = []
    while True:
        enough = [found >= least for found, least in zip(counts, (min_user_events, min_item_events), strict=True)]
        if all((rich | (found == 0)).all() for rich, found in zip(enough, counts, strict=True)):
            return keep, rounds
        left = enough[0][users]
        left &= enough[1][items]
        left &= keep
        gone = np.flatnonzero(keep ^ left)
        keep = left
        lost = [_remove(found, numbers[gone]) for found, numbers in zip(counts, (users, items), strict=True)]
        rounds.append(Round(lost[0], lost[1], len(gone)))


def single_pass(
    users: NDArray[np.int32], items: NDArray[np.int32], min_user_events: int, min_item_events: int
) -> tuple[NDArray[np.bool_], list[Round]]:
    """Drops short users, then rare items, then the users that have become short, and stops.

    Items may be left with fewer events than asked for: the rule of the RSC15 sets of the literature.

    Args:
        users: [E] user of every event.
        items: [E] item of every event.
        min_user_events: Events that each user must have.
        min_item_events: Events that each item must have after the first step.

    Returns:
        Which events stay [E], and what each of the three steps took away.
    """
    keep = np.ones(len(users), np.bool_)
    rounds = []
    for numbers, least in ((users, min_user_events), (items, min_item_events), (users, min_user_events)):
        enough = _enough(numbers[keep], least)
        rounds.append(_round(users[keep], items[keep], enough))
        keep[keep] = enough
    return keep, rounds


def _remove(counts: NDArray[np.int64], gone: NDArray[np.int32]) -> int:
    """Takes events off the counts; returns how many have none any more."""
    before = int(np.count_nonzero(counts))
    counts -= np.bincount(gone, minlength=len(counts))
    return before - int(np.count_nonzero(counts))


def _enough(numbers: NDArray[np.int32], least: int) -> NDArray[np.bool_]:
    return (np.bincount(numbers) >= least)[numbers]


def _round(users: NDArray[np.int32], items: NDArray[np.int32], enough: NDArray[np.bool_]) -> Round:
    return Round(
        _present(users) - _present(users[enough]),
        _present(items) - _present(items[enough]),
        int(len(enough) - enough.sum()),
    )


def _present(numbers: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))
