import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST, TRAIN, UNUSED, VALID, in_full, leave_one_out
from modalrec.errors import ConfigError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import write_atomic

N_ITEMS = 9
users = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=8), min_size=1, max_size=10)
splits = st.lists(st.integers(0, 2), min_size=8, max_size=8)


def sequences(histories: list[list[int]], name: str = "leave_one_out", parts: list[int] | None = None) -> Sequences:
    """Histories under leave-one-out, or with each user's parts sorted as a cut in time sorts them."""
    items = np.array([item for history in histories for item in history], np.int32)
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    owners = np.repeat(np.arange(len(histories), dtype=np.int32), np.diff(offsets))
    split = leave_one_out(owners)
    if parts is not None:
        split = np.array([part for history in histories for part in sorted(parts[: len(history)])], np.int8)
    return Sequences(items, offsets, split, N_ITEMS, name)


def of_users(flat: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [flat[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]


@given(users, splits, st.sampled_from([VALID, TEST]))
def test_a_history_is_all_that_came_before_its_target_and_nothing_else(histories, parts, split):
    data = sequences(histories, "temporal", parts)
    targets = data.targets(split)
    for user, item, end, history in zip(
        targets.users, targets.items, targets.ends, data.histories(targets), strict=True
    ):
        place = end - data.offsets[user]
        assert data.split[end] == split
        assert histories[user][place] == item
        assert history.tolist() == histories[user][:place]
        assert len(history) > 0
        assert (data.split[data.offsets[user] : end] <= split).all()
    assert len(set(targets.users.tolist())) == len(targets)


@given(users, splits, st.sampled_from([VALID, TEST]))
def test_users_without_history_are_counted_and_left_out(histories, parts, split):
    data = sequences(histories, "temporal", parts)
    having = [user for user, part in enumerate(of_users(data.split, data.offsets)) if split in part]
    assert len(data.targets(split)) + data.cold_users(split) == len(having)


@given(users, splits)
def test_train_holds_the_train_events_of_every_user_and_no_other(histories, parts):
    data = sequences(histories, "temporal", parts)
    train = data.train()
    assert (train.split == TRAIN).all()
    expected = [
        [item for item, part in zip(history, sorted(parts[: len(history)]), strict=True) if part == TRAIN]
        for history in histories
    ]
    assert of_users(train.items, train.offsets) == expected
    assert train.train_counts().tolist() == np.bincount(train.items, minlength=N_ITEMS).tolist()


@given(users, st.integers(0, 5))
def test_shuffling_keeps_users_items_and_targets(histories, seed):
    data = sequences(histories)
    mixed = data.shuffled(np.random.default_rng(seed))
    for before, after in zip(of_users(data.items, data.offsets), of_users(mixed.items, mixed.offsets), strict=True):
        assert sorted(before) == sorted(after)
    for split in (VALID, TEST):
        assert mixed.targets(split).items.tolist() == data.targets(split).items.tolist()
    assert mixed.train_counts().tolist() == data.train_counts().tolist()


@given(users, splits, st.integers(0, 5))
def test_shuffling_up_to_the_test_leaves_the_test_events(histories, parts, seed):
    data = sequences(histories, "temporal", parts)
    mixed = data.shuffled(np.random.default_rng(seed), before=TEST)
    before, after = data.targets(TEST), mixed.targets(TEST)
    assert after.items.tolist() == before.items.tolist()
    for old, new in zip(data.histories(before), mixed.histories(after), strict=True):
        assert sorted(old.tolist()) == sorted(new.tolist())
    assert (mixed.items == data.items)[data.split == TEST].all()


def test_shuffling_changes_the_order():
    data = sequences([list(range(9))] * 50)
    mixed = data.shuffled(np.random.default_rng(0))
    orders = {tuple(history) for history in of_users(mixed.items, mixed.offsets)}
    assert len(orders) > 45


def test_users_of_one_or_two_events_only_train():
    data = sequences([[1], [2, 3], [4, 5, 6]])
    assert data.targets(TEST).users.tolist() == [2]
    assert data.targets(VALID).items.tolist() == [5]
    assert data.cold_users(TEST) == 0
    assert data.train().items.tolist() == [1, 2, 3, 4]


def test_histories_can_be_cut_to_their_end():
    data = sequences([[0, 1, 2, 3, 4], [5, 6, 7]])
    assert [history.tolist() for history in data.histories(data.targets(TEST), length=2)] == [[2, 3], [5, 6]]


def test_a_written_dataset_is_read_back(tmp_path: Path):
    config = resolve(Config, {"min_user_events": 1, "min_item_events": 1, "splits": ["leave_one_out"]})
    ingest(write_atomic(tmp_path / "raw"), tmp_path / "dataset", config=config, run=Run("ingest", quiet=True))
    data = Sequences.load(tmp_path / "dataset", "leave_one_out")
    assert (data.n_users, data.n_items, len(data.items)) == (8, 6, 40)
    # User 0 rates all films but the first, in order.
    assert data.items[:5].tolist() == [1, 2, 3, 4, 5]
    assert data.targets(TEST).items[0] == 5
    with pytest.raises(ConfigError, match="has only leave_one_out"):
        Sequences.load(tmp_path / "dataset", "temporal")


@given(users, splits, st.sampled_from([VALID, TEST]))
def test_every_event_of_a_split_with_a_history_is_a_target(histories, parts, split):
    data = sequences(histories, "temporal", parts)
    targets = data.targets(split, every=True)
    expected = [
        (user, place, history[:place])
        for user, history in enumerate(histories)
        for place, part in enumerate(sorted(parts[: len(history)]))
        if part == split and place > 0
    ]
    found = [
        (user, end - data.offsets[user], history.tolist())
        for user, end, history in zip(targets.users, targets.ends, data.histories(targets), strict=True)
    ]
    assert found == expected
    assert len(np.unique(targets.users)) + data.cold_users(split) == len(set(of_part(data, split)))


def of_part(data: Sequences, split: int) -> list[int]:
    owners = np.repeat(np.arange(data.n_users), np.diff(data.offsets))
    return owners[data.split == split].tolist()


@given(users, st.lists(st.integers(-2, 2), min_size=80, max_size=80))
def test_events_of_no_part_are_nowhere(histories, parts):
    events = [item for history in histories for item in history]
    offsets = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    split = np.array(parts[: len(events)], np.int8)
    data = Sequences(np.array(events, np.int32), offsets, split, N_ITEMS, "sessions")
    expected = [
        [item for item, part in zip(history, split[begin:], strict=False) if part >= TRAIN]
        for history, begin in zip(histories, offsets, strict=False)
    ]
    assert of_users(data.items, data.offsets) == expected
    both = data.with_valid()
    assert of_users(both.items, both.offsets) == [
        [item for item, part in zip(history, split[begin:], strict=False) if part != UNUSED]
        for history, begin in zip(histories, offsets, strict=False)
    ]
    assert both.train().items.tolist() == [item for item, part in zip(events, split, strict=True) if in_full(part)]
    assert of_users(data.train().train().items, data.train().offsets) == of_users(
        data.train().items, data.train().offsets
    )


def test_validation_events_can_be_turned_into_train_events():
    data = sequences([[0, 1, 2, 3], [4, 5, 6]])
    both = data.with_valid()
    assert both.train().items.tolist() == [0, 1, 2, 4, 5]
    assert both.targets(TEST).items.tolist() == data.targets(TEST).items.tolist()
    assert len(both.targets(VALID)) == 0
    assert data.train().items.tolist() == [0, 1, 4]


def test_unknown_items_go_from_histories_and_targets():
    data = sequences([[0, 1, 2, 2, 1], [0, 3, 4]], "sessions", None)
    data = Sequences(data.items, data.offsets, np.array([0, 0, 2, 2, 2, 0, 2, 2], np.int8), N_ITEMS, "sessions")
    known = data.known()
    assert of_users(known.items, known.offsets) == [[0, 1, 1], [0]]
    assert known.targets(TEST, every=True).items.tolist() == [1]
    assert known.targets(TEST).users.tolist() == [0]
