"""Sorting of events and finding repeats among them, compiled; `events` has the slower twins in numpy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import inlined, kernel

BLOCK = 16
"""Events that are sorted one by one."""
RUN = 64
"""Events of one user and time up to which each is compared with each."""


@kernel
def order_of(users: NDArray[np.int32], keys: NDArray[np.int64], n_users: int) -> NDArray[np.int64]:
    """The order [E] of events by user, then key, then as they came.

    Args:
        users: [E] numbered from 0.
        keys: [E] or [0] where the order in which they came is all there is.
        n_users: How many users there are.
    """
    offsets = np.zeros(n_users + 1, np.int64)
    for place in range(len(users)):
        offsets[users[place] + 1] += 1
    longest = 0
    for user in range(n_users):
        longest = max(longest, offsets[user + 1])
        offsets[user + 1] += offsets[user]
    free = offsets[:-1].copy()
    order = np.empty(len(users), np.int64)
    for place in range(len(users)):
        user = users[place]
        order[free[user]] = place
        free[user] += 1
    if len(keys):
        own, spare = np.empty(longest, np.int64), np.empty(longest, np.int64)
        spare_order = np.empty(longest, np.int64)
        for user in range(n_users):
            begin, end = offsets[user], offsets[user + 1]
            for at in range(begin, end):
                own[at - begin] = keys[order[at]]
            _merge_sort(own, order[begin:end], spare, spare_order, end - begin)
    return order


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


@inlined
def _merge_sort(own: Any, order: Any, spare: Any, spare_order: Any, n: int) -> None:
    """Sorts keys and what belongs to them; equal keys stay in place."""
    in_order = True
    for at in range(1, n):
        if own[at] < own[at - 1]:
            in_order = False
            break
    if not in_order:
        for begin in range(0, n, BLOCK):
            for at in range(begin + 1, min(begin + BLOCK, n)):
                key, place, hole = own[at], order[at], at
                while hole > begin and own[hole - 1] > key:
                    own[hole], order[hole] = own[hole - 1], order[hole - 1]
                    hole -= 1
                own[hole], order[hole] = key, place
        width = BLOCK
        while width < n:
            for begin in range(0, n - width, 2 * width):
                middle, end = begin + width, min(begin + 2 * width, n)
                for at in range(begin, middle):
                    spare[at], spare_order[at] = own[at], order[at]
                left, right, at = begin, middle, begin
                while left < middle:
                    if right < end and own[right] < spare[left]:
                        own[at], order[at] = own[right], order[right]
                        right += 1
                    else:
                        own[at], order[at] = spare[left], spare_order[left]
                        left += 1
                    at += 1
            width *= 2
