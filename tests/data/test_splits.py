import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.splits import TEST, TRAIN, UNUSED, VALID, cold_items, fold, leave_one_out, new_items, temporal
from modalrec.errors import ConfigError

lengths = st.lists(st.integers(1, 7), min_size=1, max_size=12)
times = st.lists(st.integers(0, 50), min_size=1, max_size=60)
shares = st.tuples(st.floats(0.05, 0.4), st.floats(0.05, 0.4))


@given(lengths)
def test_leave_one_out_takes_the_last_two_events_of_users_with_three(counts):
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    split = leave_one_out(users)
    for user, count in enumerate(counts):
        expected = [TRAIN] * count if count < 3 else [TRAIN] * (count - 2) + [VALID, TEST]
        assert split[users == user].tolist() == expected


def test_leave_one_out_of_nothing_is_nothing():
    assert len(leave_one_out(np.zeros(0, np.int32))) == 0


@given(lengths, st.floats(0.05, 0.9), st.integers(0, 5))
def test_held_out_items_have_no_train_event_and_all_others_are_as_in_leave_one_out(counts, share, seed):
    users = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    items = np.random.default_rng(seed).integers(0, 10, len(users)).astype(np.int32)
    split, held_out = cold_items(users, items, 10, share, np.random.default_rng(seed))
    assert len(held_out) == round(share * 10)
    usual, cold = leave_one_out(users), np.isin(items, held_out)
    assert (split[cold & (usual == TRAIN)] == UNUSED).all()
    others = ~cold | (usual != TRAIN)
    np.testing.assert_array_equal(split[others], usual[others])


@given(times, shares)
def test_no_event_of_an_earlier_part_lies_at_or_after_a_cut(timestamps, parts):
    timestamps = np.array(timestamps, np.int64)
    try:
        split, (valid_cut, test_cut) = temporal(timestamps, *parts)
    except ConfigError:
        # Equal times can leave a part empty; then the error must be right about it.
        ordered = np.sort(timestamps)
        first = ordered[int(len(ordered) * (1 - sum(parts)))]
        second = ordered[int(len(ordered) * (1 - parts[1]))]
        assert ordered[0] == first or first == second
        return
    assert timestamps[split == TRAIN].max() < valid_cut <= timestamps[split == VALID].min()
    assert timestamps[split == VALID].max() < test_cut <= timestamps[split == TEST].min()


def test_temporal_shares_are_shares_of_the_events():
    split, cuts = temporal(np.arange(1000), 0.1, 0.2)
    assert np.bincount(split).tolist() == [700, 100, 200]
    assert cuts == [700, 800]


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (0.7, 0.9), (0, 0.1), (-0.1, 0.1)])
def test_impossible_shares_are_refused(valid, test):
    with pytest.raises(ConfigError, match="their sum below 1"):
        temporal(np.arange(100), valid, test)


def test_equal_times_are_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"no train and no valid event.*leave_one_out"):
        temporal(np.full(100, 7), 0.1, 0.1)
    with pytest.raises(ConfigError, match="must be above 0"):
        temporal(np.zeros(0, np.int64), 0.1, 0.1)


@given(st.integers(20, 80), st.integers(2, 6), st.floats(0.1, 0.4))
def test_folds_cover_the_rows_once_and_validation_is_of_the_others(n, folds, share):
    parts = [fold(n, folds, number, share, np.random.default_rng(7)) for number in range(folds)]
    assert np.sum([part == TEST for part in parts], axis=0).tolist() == [1] * n
    for part in parts:
        assert (part == VALID).sum() == round((part != TEST).sum() * share)
    with pytest.raises(ConfigError, match=f"fold={folds} of folds={folds}"):
        fold(n, folds, folds, share, np.random.default_rng(7))


@given(st.integers(0, 5), st.floats(0.05, 0.2))
def test_rows_of_new_items_are_in_no_training(seed, share):
    items = np.random.default_rng(seed).integers(0, 40, 400).astype(np.int32)
    split, held_out = new_items(items, 40, share, 0.1, 0.2, np.random.default_rng(seed))
    assert len(held_out) == round(share * 40)
    assert (split[np.isin(items, held_out)] == TEST).all()
    unseen = np.setdiff1d(items, items[split == TRAIN])
    assert len(unseen) >= 2 * len(held_out), "as many are new to validation"
    assert (split[np.isin(items, unseen)] != TRAIN).all()
    warm = ~np.isin(items, unseen)
    assert {TRAIN, VALID, TEST} == set(split[warm])
