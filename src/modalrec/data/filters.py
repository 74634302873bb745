"""Filters on events: a core in which every user and every item has enough of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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
    keep = np.ones(len(users), np.bool_)
    rounds = []
    while keep.any():
        left_users, left_items = users[keep], items[keep]
        user_enough = np.bincount(left_users) >= min_user_events
        item_enough = np.bincount(left_items) >= min_item_events
        enough = user_enough[left_users] & item_enough[left_items]
        if enough.all():
            break
        rounds.append(
            Round(
                _present(left_users) - _present(left_users[enough]),
                _present(left_items) - _present(left_items[enough]),
                int(len(enough) - enough.sum()),
            )
        )
        keep[keep] = enough
    return keep, rounds


def _present(numbers: NDArray[np.int32]) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))
