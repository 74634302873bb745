import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.events import Events, collect
from modalrec.data.sources import EVENT_ROWS

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
    return collect(batches(events), {f"i{item}": item for item in range(items)}, timestamps=True, ratings=True)[0]


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
    kept, found = collect(batches(events, 2), {"i0": 0, "i1": 1}, timestamps=True, ratings=False)
    assert (found.rows, len(kept), found.unknown) == (4, 1, {"i3": 2, "i2": 1})


def test_without_times_repeats_are_events_of_their_own():
    events = collect(batches([(0, 1, None, None)] * 3), {"i1": 0}, timestamps=False, ratings=False)[0]
    assert events.timestamps is None
    assert not events.exact_repeats().any()
    assert events.once("first").sum() == 1
