import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.events import Events
from modalrec.data.session_splits import DAY, SessionSplit, split_sessions
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, UNUSED, VALID, in_full
from modalrec.errors import ConfigError

HALF = DAY // 2
START, END = SessionSplit(), SessionSplit(by="end")


def made(rows: list[tuple[int, int, int]], roles: list[int] | None = None) -> Events:
    """Events of (session, item, time), sorted."""
    order = sorted(range(len(rows)), key=lambda row: (rows[row][0], rows[row][2]))
    users, items, times = (np.array([rows[row][column] for row in order]) for column in range(3))
    parts = None if roles is None else np.array([roles[row] for row in order], np.int8)
    return Events(users.astype(np.int32), items.astype(np.int32), times.astype(np.int64), roles=parts)


def by_code(events: Events, split) -> dict[int, list[tuple[int, int]]]:
    kept = events.take(split.keep)
    codes = split.columns["sessions"]
    pairs = list(zip(kept.users.tolist(), kept.items.tolist(), strict=True))
    return {code: [pair for pair, own in zip(pairs, codes, strict=True) if own == code] for code in set(codes.tolist())}


BASE = [(0, 1, 0), (0, 2, 9), (1, 1, 2 * DAY + 5), (1, 2, 2 * DAY + 6), (2, 1, 4 * DAY - 9), (2, 2, 4 * DAY)]


def test_a_session_belongs_where_it_begins_and_is_cut_off_there():
    # Session 3 runs over the test cut, 4 over the validation cut; 5 is left with one event by the cut.
    rows = [*BASE, (3, 1, 3 * DAY - 2), (3, 2, 3 * DAY - 1), (3, 1, 3 * DAY), (3, 2, 3 * DAY + 1)]
    rows += [(4, 1, 2 * DAY - 2), (4, 2, 2 * DAY - 1), (4, 1, 2 * DAY), (5, 1, 3 * DAY - 1), (5, 2, 3 * DAY + 1)]
    # At a cut is after it.
    rows += [(6, 1, 3 * DAY), (6, 2, 3 * DAY), (7, 1, 2 * DAY), (7, 2, 2 * DAY)]
    events = made(rows)
    split = split_sessions(events, START)
    assert by_code(events, split) == {
        TRAIN: [(0, 1), (0, 2), (4, 1), (4, 2)],
        VALID: [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2)],
        TEST: [(2, 1), (2, 2), (6, 1), (6, 2)],
        FULL_ONLY: [(4, 1)],
    }
    assert [(drop.step, drop.interactions, drop.sessions) for drop in split.drops] == [
        ("past_cut", 3, 2),
        ("short_train", 1, 1),
    ]
    assert split.cuts == {"test_cut": 3 * DAY, "valid_cut": 2 * DAY}
    assert (split.counts["train_full_events"], split.counts["train_tr_events"]) == (11, 4)


def test_a_session_belongs_where_it_ends_and_stays_whole():
    # Item 7 is unseen in train: session 3 loses it in validation, 4 and 5 in test, of which 5 is left with one event.
    rows = [*BASE, (3, 1, 2 * DAY - 1), (3, 7, 2 * DAY), (3, 2, 2 * DAY + 7), (4, 1, 3 * DAY - 1), (4, 8, 3 * DAY)]
    rows += [(4, 2, 3 * DAY + 1), (5, 1, 4 * DAY - 5), (5, 8, 4 * DAY - 4)]
    # At a cut is after it.
    rows += [(6, 1, 3 * DAY - 2), (6, 2, 3 * DAY), (7, 1, 4), (7, 2, DAY + 7)]
    events = made(rows)
    split = split_sessions(events, END)
    # Validation is counted back from the last event of training.
    assert split.cuts == {"test_cut": 3 * DAY, "valid_cut": DAY + 7}
    assert by_code(events, split) == {
        TRAIN: [(0, 1), (0, 2)],
        VALID: [(1, 1), (1, 2), (3, 1), (3, 2), (7, 1), (7, 2)],
        TEST: [(2, 1), (2, 2), (4, 1), (4, 2), (6, 1), (6, 2)],
        FULL_ONLY: [(3, 7)],
    }
    assert [(drop.step, drop.interactions) for drop in split.drops] == [("unseen_test", 2), ("short_test", 1)]
    assert in_full(split.columns["sessions"]).sum() == split.counts["train_full_events"] == 9
    assert split.counts["train_tr_events"] == 2


def test_the_rule_of_starts_counts_test_before_unseen_items_leave():
    events = made([*BASE, (3, 9, 4 * DAY - 5), (3, 1, 4 * DAY - 4), (3, 2, 4 * DAY - 3)])
    split = split_sessions(events, START)
    assert (split.counts["test_events"], split.counts["test_items"]) == (5, 3)
    assert (split.columns["sessions"] == TEST).sum() == 4


def test_days_are_counted_back_from_a_given_moment():
    events = made([*BASE, (3, 1, 9 * DAY), (3, 2, 9 * DAY)])
    split = split_sessions(events, SessionSplit(until=4 * DAY))
    # Later sessions are test too.
    assert by_code(events, split)[TEST] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    with pytest.raises(ConfigError, match=r"no validation event .* Change session_split\.days or session_split\.until"):
        split_sessions(events, START)
    with pytest.raises(ConfigError, match="no train event"):
        split_sessions(events, SessionSplit(days=30))


def test_half_days_and_ticks():
    events = made(BASE)
    milli = Events(events.users, events.items, events.timestamps * 1000, per_second=1000)
    for rule in (SessionSplit(days=1.5), SessionSplit(days=1)):
        one, two = split_sessions(events, rule), split_sessions(milli, rule)
        assert one.cuts == two.cuts
        assert one.columns["sessions"].tolist() == two.columns["sessions"].tolist()


def test_prepared_parts_keep_their_tests_apart():
    rows = [
        (0, 1, 0),
        (0, 2, 5),
        (1, 1, 2 * DAY),
        (1, 2, 2 * DAY + 1),
        (2, 1, 3 * DAY),
        (2, 2, 3 * DAY),
        (3, 2, 4),
        (3, 1, 5),
    ]
    rows += [(4, 9, 7), (4, 1, 8)]
    events = made(rows, [0, 0, 0, 0, 1, 1, 2, 2, 2, 2])
    split = split_sessions(events, END, ("train", "a", "b"))
    assert list(split.columns) == ["sessions", "sessions_b"]
    assert split.columns["sessions"].tolist() == [TRAIN, TRAIN, VALID, VALID, TEST, TEST, UNUSED, UNUSED]
    assert split.columns["sessions_b"].tolist() == [TRAIN, TRAIN, VALID, VALID, UNUSED, UNUSED, TEST, TEST]
    assert [drop.step for drop in split.drops] == ["unseen_b", "short_b"]
    given = split_sessions(made(rows[:8], [0, 0, 1, 1, 2, 2, 3, 3]), END, ("train", "valid", "a", "b"))
    assert given.columns["sessions"].tolist() == split.columns["sessions"].tolist()
    assert given.cuts == {}


def test_a_test_set_of_unknown_items_alone_is_refused():
    events = made([*BASE, (3, 9, 1), (3, 9, 2)], [0, 0, 0, 0, 1, 1, 2, 2])
    with pytest.raises(ConfigError, match="no event of b is left"):
        split_sessions(events, END, ("train", "a", "b"))


rows = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(0, 10)), min_size=8, max_size=60)


@given(rows, st.sampled_from(["start", "end"]))
def test_parts_are_whole_and_in_time(drawn, by):
    """Whatever comes: no leak in time between train and test, no unknown item in test, no session in two parts."""
    events = made([(session, item, session * HALF // 2 + time * HALF // 4) for session, item, time in drawn])
    try:
        split = split_sessions(events, SessionSplit(by=by))
    except ConfigError:
        return
    kept = events.take(split.keep)
    frame = pd.DataFrame({"session": kept.users, "item": kept.items, "time": kept.timestamps})
    frame["code"] = split.columns["sessions"]
    full, test = frame[in_full(split.columns["sessions"])], frame[frame.code == TEST]
    assert set(test["item"]) <= set(full["item"])
    assert not set(test.session) & set(full.session)
    assert not set(frame[frame.code == TRAIN].session) & set(frame[frame.code == VALID].session)
    assert test.groupby("session").size().min() >= 2
    ends = test.groupby("session").time.max() if by == "end" else test.groupby("session").time.min()
    assert by == "end" or full.time.max() < split.cuts["test_cut"] <= ends.min()
    assert len(frame) + sum(drop.interactions for drop in split.drops) == len(events)
