"""Filters on events: a core in which every user and every item has enough of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Round:
    """What one round of the core filter took away."""

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
    left = np.arange(len(users))
    rounds = []
    while len(left):
        user_counts, item_counts = np.bincount(users[left]), np.bincount(items[left])
        enough = (user_counts >= min_user_events)[users[left]] & (item_counts >= min_item_events)[items[left]]
        if enough.all():
            break
        rounds.append(
            Round(
                int(((user_counts > 0) & (user_counts < min_user_events)).sum()),
                int(((item_counts > 0) & (item_counts < min_item_events)).sum()),
                int(len(left) - enough.sum()),
            )
        )
        left = left[enough]
    keep = np.zeros(len(users), np.bool_)
    keep[left] = True
    return keep, rounds
