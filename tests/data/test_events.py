from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data import events as module
from modalrec.data.events import Events, collect, stable_order
from modalrec.data.sources import EVENT_ROWS

BOTH = ["timestamp", "rating"]
rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.sampled_from([1, 2, None])), max_size=40
)


def batches(events: list[tuple], size: int = 7) -> list[pa.RecordBatch]:
    records = [
        {"user_id": f"u{user}", "item_id": f"i{item}", "timestamp": time, "rating": rating}
        for user, item, time, rating in events
    ]
    return [pa.RecordBatch.from_pylist(records[b : b + size], EVENT_ROWS) for b in range(0, len(records), size)]


def gathered(events: list[tuple], items: int = 4) -> Events:
    return collect(batches(events), {f"i{item}": item for item in range(items)}, keep=BOTH)[0]


def plain(events: Events) -> list[tuple]:
    assert events.timestamps is not None
    assert events.ratings is not None
    columns = (events.users, events.items, events.timestamps, events.ratings)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(user, item, time, None if rating != rating else rating) for user, item, time, rating in rows]


def numbered(events: list[tuple]) -> list[tuple]:
    users = list(dict.fromkeys(user for user, *_ in events))
    return [(users.index(user), *rest) for user, *rest in events]


@given(rows)
def test_events_sort_by_user_and_time_and_keep_the_order_of_the_file(events):
    assert plain(gathered(events)) == sorted(numbered(events), key=lambda event: (event[0], event[2]))


@given(rows, st.integers(1, 9))
def test_users_one_after_the_other_are_sorted_some_at_a_time(events, part):
    together = sorted(events, key=lambda event: event[0])
    with mock.patch.object(module, "SORTED", part):
        assert plain(gathered(together)) == sorted(numbered(together), key=lambda event: (event[0], event[2]))


@given(
    st.lists(st.tuples(st.integers(-3, 9), st.sampled_from([-(10**9), 0, 7, 10**9, 1 << 61, -(1 << 61)]))),
    st.booleans(),
)
def test_the_order_is_stable_whether_keys_go_into_one_number_or_not(pairs, close):
    first, second = (np.array([pair[place] for pair in pairs], np.int64) for place in (0, 1))
    second = second % 1000 if close else second
    expected = np.lexsort([second, first])
    np.testing.assert_array_equal(stable_order(first.astype(np.int32), second), expected)


@given(rows, st.integers(1, 9))
def test_events_kept_in_place_are_those_taken(events, part):
    kept = np.arange(len(events)) % 3 != 1
    expected = plain(gathered(events).take(kept))
    with mock.patch.object(module, "PART", part):
        assert plain(gathered(events).keep_only(kept)) == expected


@given(rows)
def test_of_equal_rows_the_first_stays(events):
    ordered = gathered(events)
    kept = plain(ordered.take(~ordered.exact_repeats()))
    assert kept == list(dict.fromkeys(plain(ordered)))


@given(rows)
def test_one_event_a_user_and_item_stays(events):
    ordered = gathered(events)
    listed = plain(ordered)
    for keep in ("first", "last"):
        found: dict[tuple, int] = {}
        for place, (user, item, *_) in enumerate(listed):
            if keep == "last" or (user, item) not in found:
                found[user, item] = place
        assert np.flatnonzero(ordered.once(keep)).tolist() == sorted(found.values())


@given(rows)
def test_numbers_without_gaps_lead_back_to_the_old_ones(events):
    ordered = gathered(events)
    compact, users, items = ordered.renumbered()
    assert users[compact.users].tolist() == ordered.users.tolist()
    assert items[compact.items].tolist() == ordered.items.tolist()
    assert len(users) == len(set(ordered.users.tolist()))
    assert sorted(items) == items.tolist()


def test_rows_of_unknown_items_are_counted_and_left_out():
    events = [(0, 0, 5, 1), (1, 3, 6, 1), (0, 3, 7, 1), (0, 2, 8, 1)]
    kept, found = collect(batches(events, 2), {"i0": 0, "i1": 1}, keep=["timestamp"])
    assert (found.rows, len(kept), found.unknown) == (4, 1, {"i3": 2, "i2": 1})


def test_without_times_repeats_are_events_of_their_own():
    events = collect(batches([(0, 1, None, None)] * 3), {"i1": 0}, keep=[])[0]
    assert events.timestamps is None
    assert not events.exact_repeats().any()
    assert events.once("first").sum() == 1


@given(rows)
def test_a_silence_begins_a_session(events):
    ordered = gathered(events)
    cut, owners = ordered.cut_at_gaps(1)
    sessions: list[tuple] = []
    last: tuple | None = None
    for user, item, time, _ in plain(ordered):
        if last is None or user != last[0] or time - last[1] > 1:
            sessions.append((user, []))
        sessions[-1][1].append((item, time))
        last = (user, time)
    assert owners.tolist() == [user for user, _ in sessions]
    expected = [(number, *event) for number, (_, own) in enumerate(sessions) for event in own]
    assert [event[:3] for event in plain(cut)] == expected


def test_a_gap_is_in_seconds_whatever_the_ticks():
    times = np.array([0, 3_600_000, 7_200_001], np.int64)
    events = Events(np.zeros(3, np.int32), np.zeros(3, np.int32), times, per_second=1000)
    assert events.cut_at_gaps(3600)[0].users.tolist() == [0, 0, 1]


@given(rows)
def test_the_first_of_consecutive_repeats_stays(events):
    ordered = gathered(events)
    listed = [event[:2] for event in plain(ordered)]
    repeats = [place > 0 and listed[place - 1] == event for place, event in enumerate(listed)]
    assert ordered.repeats_in_a_row().tolist() == repeats


@given(rows)
def test_users_in_the_order_of_their_starts(events):
    ordered = gathered(events)
    listed = plain(ordered)
    starts = {user: min(time for other, _, time, _ in listed if other == user) for user, *_ in listed}
    expected = sorted(listed, key=lambda event: (starts[event[0]], event[0]))
    assert plain(ordered.take(ordered.by_start())) == expected


def test_events_of_one_time_by_rank():
    drawn = [(0, 2, 5, 1), (0, 0, 5, 1), (0, 1, 5, 1), (0, 3, 4, 1)]
    rows_of = {f"i{item}": item for item in range(4)}
    ranks = np.array([1, 2, 0, 3], np.int32)
    events = collect(batches(drawn), rows_of, keep=["timestamp"], ties=ranks)[0]
    assert events.items.tolist() == [3, 2, 0, 1]


def test_context_stays_whatever_its_item():
    record = {"user_id": "u", "item_id": "", "timestamp": 5, "rating": None}
    batch = pa.RecordBatch.from_pylist([record | {"role": role} for role in (-1, 0)], EVENT_ROWS)
    events, found = collect([batch], {"i0": 0}, keep=["timestamp", "role"])
    assert (events.items.tolist(), events.roles.tolist()) == ([-1], [-1])
    assert found.unknown == {"": 1}
