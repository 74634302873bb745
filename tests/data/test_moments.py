import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.moments import DAY, FIELDS, Moments

ROW = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5 * DAY), st.booleans())
"""User, item, time, whether it counts."""


def columns(rows: list[tuple[int, int, int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    users, items, times, counted = zip(*rows, strict=True)
    return np.array(users, np.int32), np.array(items, np.int32), np.array(times, np.int64), np.flatnonzero(counted)


@given(rows=st.lists(ROW, min_size=1, max_size=30))
def test_what_is_known_comes_from_train_rows_strictly_before(rows: list[tuple[int, int, int, bool]]) -> None:
    users, items, times, counted = columns(rows)
    found = Moments(users, items, times, counted).at(users, items, times)
    for place, (user, item, time, _) in enumerate(rows):
        for owner, key in ((0, user), (1, item)):
            before = [row[2] for row in rows if row[3] and row[owner] == key and row[2] < time]
            name = ("user", "item")[owner]
            assert found[f"row_{name}_count"][place] == pytest.approx(np.log1p(len(before)), rel=1e-6)
            days = (time - min(before)) / DAY if before else 0.0
            assert found[f"row_{name}_days"][place] == pytest.approx(np.log1p(days), rel=1e-5)


@given(rows=st.lists(ROW, min_size=2, max_size=30), data=st.data())
def test_what_comes_later_or_does_not_count_changes_nothing(
    rows: list[tuple[int, int, int, bool]], data: st.DataObject
) -> None:
    """The leak test: rows at or after a row's time, and rows for test, may be anything."""
    rows = sorted(rows, key=lambda row: row[2])
    place = data.draw(st.integers(0, len(rows) - 1))
    time = rows[place][2]
    changed = [
        row
        if row[3] and row[2] < time
        else (data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)), row[2], row[3])
        for row in rows
    ]
    asked = tuple(np.array([value]) for value in rows[place][:3])
    first, second = (Moments(*columns(given)).at(*asked) for given in (rows, changed))
    for one in FIELDS:
        assert first[one.key] == second[one.key], one.key


def test_hours_lie_on_a_circle_and_owners_that_nobody_met_have_nothing() -> None:
    users, items, times, counted = columns([(0, 0, 0, True), (1, 1, 6 * 3600, False)])
    found = Moments(users, items, times, counted).at(
        np.array([7], np.int32), np.array([9], np.int32), np.array([6 * 3600])
    )
    assert [float(found[f"row_{name}"][0]) for name in ("user_count", "item_count", "user_days", "item_days")] == [
        0
    ] * 4
    assert found["row_hour_sin"][0] == pytest.approx(1)
    assert found["row_hour_cos"][0] == pytest.approx(0, abs=1e-6)
