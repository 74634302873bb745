import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.filters import k_core, single_pass

events = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=80)
least = st.integers(1, 4)


@given(events, least, least)
def test_the_core_is_what_dropping_one_at_a_time_leaves(pairs, min_user, min_item):
    left = list(enumerate(pairs))
    while True:
        poor = [
            place
            for place, (user, item) in left
            if sum(user == other for _, (other, _) in left) < min_user
            or sum(item == other for _, (_, other) in left) < min_item
        ]
        if not poor:
            break
        left = [(place, pair) for place, pair in left if place != poor[0]]
    users = np.array([user for user, _ in pairs], np.int32)
    items = np.array([item for _, item in pairs], np.int32)
    keep, rounds = k_core(users, items, min_user, min_item)
    assert np.flatnonzero(keep).tolist() == [place for place, _ in left]
    assert sum(one.interactions for one in rounds) == (~keep).sum()
    assert sum(one.users for one in rounds) == len(set(users.tolist()) - set(users[keep].tolist()))
    assert sum(one.items for one in rounds) == len(set(items.tolist()) - set(items[keep].tolist()))


def test_rounds_are_counted():
    # Item 2 has one event; without it user 1 has one; without that item 1 has one, and so on.
    users, items = np.array([0, 0, 1, 1], np.int32), np.array([0, 0, 0, 2], np.int32)
    keep, rounds = k_core(users, items, 2, 2)
    assert keep.tolist() == [True, True, False, False]
    assert [(one.users, one.items, one.interactions) for one in rounds] == [(0, 1, 1), (1, 0, 1)]


@given(events, least, least)
def test_a_single_pass_drops_short_users_rare_items_short_users(pairs, min_user, min_item):
    left = list(enumerate(pairs))
    for column, at_least in ((0, min_user), (1, min_item), (0, min_user)):
        names = [pair[column] for _, pair in left]
        left = [one for one, name in zip(left, names, strict=True) if names.count(name) >= at_least]
    users = np.array([user for user, _ in pairs], np.int32)
    items = np.array([item for _, item in pairs], np.int32)
    keep, rounds = single_pass(users, items, min_user, min_item)
    assert np.flatnonzero(keep).tolist() == [place for place, _ in left]
    assert len(rounds) == 3
    assert sum(one.interactions for one in rounds) == (~keep).sum()


def test_a_single_pass_may_leave_rare_items():
    # Item 1 falls to one event when item 2's rarity shortens user 1.
    users, items = np.array([0, 0, 0, 1, 1], np.int32), np.array([0, 0, 1, 1, 2], np.int32)
    assert single_pass(users, items, 2, 2)[0].tolist() == [True, True, True, False, False]
    assert k_core(users, items, 2, 2)[0].tolist() == [True, True, False, False, False]
