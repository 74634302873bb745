"""Loops over events, compiled; `events` and `counting` have the slower twins in numpy."""

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import kernel

RUN = 64
"""Events of one user and time up to which each is compared with each."""


@kernel
def by_user(users: NDArray[np.int32], n_users: int) -> NDArray[np.int64]:
    """The order [E] of events by user, then as they came.

    Args:
        users: [E] numbered from 0.
        n_users: How many users there are.
    """
    free = np.zeros(n_users + 1, np.int64)
    for place in range(len(users)):
        free[users[place] + 1] += 1
    for user in range(n_users):
        free[user + 1] += free[user]
    order = np.empty(len(users), np.int64)
    for place in range(len(users)):
        user = users[place]
        order[free[user]] = place
        free[user] += 1
    return order


@kernel
def mark(numbers: NDArray[np.int32], chosen: NDArray[np.bool_], flags: NDArray[np.bool_]) -> None:
    """Sets the flags of the numbers [E] at chosen places [E]."""
    for place in range(len(numbers)):
        if chosen[place]:
            flags[numbers[place]] = True


@kernel
def mark_repeats(
    users: NDArray[np.int32], times: NDArray[np.int64], items: NDArray[np.int32], ratings: NDArray[np.int32],
    labels: NDArray[np.int8], repeats: NDArray[np.bool_],
) -> NDArray[np.bool_]:  # fmt: skip
    """Marks events that equal an earlier one of their run: of their user and time.

    Args:
        users: [E] sorted.
        times: [E] sorted within a user.
        items: [E].
        ratings: [E] the bits of ratings, or [0].
        labels: [E], or [0].
        repeats: [E] takes the marks.

    Returns:
        Which events are in runs longer than RUN, which are left alone [E].
    """
    left = np.zeros(len(users), np.bool_)
    begin = 0
    while begin < len(users):
        end = begin + 1
        while end < len(users) and users[end] == users[begin] and times[end] == times[begin]:
            end += 1
        if end - begin > RUN:
            left[begin:end] = True
        else:
            for at in range(begin + 1, end):
                for before in range(begin, at):
                    if (
                        items[before] == items[at]
                        and (not len(ratings) or ratings[before] == ratings[at])
                        and (not len(labels) or labels[before] == labels[at])
                    ):
                        repeats[at] = True
                        break
        begin = end
    return left
