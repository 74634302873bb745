from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.sequences import Sequences
from modalrec.training.windows import PAD, Windows


def sequences(lengths: list[int]) -> Sequences:
    """Every event is an item of its own, so that a window says exactly which events it holds."""
    total = sum(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Sequences(np.arange(total, dtype=np.int32), offsets, np.zeros(total, np.int8), total, "leave_one_out")


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(2, 9), st.booleans(), st.integers(0, 3))
def test_every_event_but_the_first_is_a_target_once_an_epoch(
    lengths: list[int], length: int, random_offset: bool, epoch: int
) -> None:
    data = sequences(lengths)
    windows = Windows(data, length, 3, seed=1, random_offset=random_offset)
    targets: Counter[int] = Counter()
    for step, indices in enumerate(windows.plan(epoch)):
        for row in windows.build(epoch, step, indices).numpy():
            real = row[row != PAD]
            assert 2 <= len(real) <= length
            assert (np.diff(real) == 1).all()
            targets.update(real[1:].tolist())
    firsts = set(data.offsets[:-1][np.diff(data.offsets) > 0].tolist())
    assert targets == Counter(set(range(len(data.items))) - firsts)


def test_a_batch_depends_on_seed_epoch_and_step_alone() -> None:
    data = sequences([30, 7, 12, 25, 3])
    first = Windows(data, 6, 4, seed=3, random_offset=True, drop_items=0.5)
    second = Windows(data, 6, 4, seed=3, random_offset=True, drop_items=0.5)
    second.plan(0)
    plan = first.plan(5)
    for step in (2, 0):
        assert np.array_equal(first.build(5, step, plan[step]), second.build(5, step, second.plan(5)[step]))


def test_dropping_items_keeps_the_order_and_two_items() -> None:
    windows = Windows(sequences([20] * 10), 20, 10, seed=0, drop_items=0.9)
    lengths = set()
    for epoch in range(20):
        for step, indices in enumerate(windows.plan(epoch)):
            for row in windows.build(epoch, step, indices).numpy():
                real = row[row != PAD]
                assert (np.diff(real) > 0).all()
                lengths.add(len(real))
    assert min(lengths) >= 2
    assert max(lengths) > 10


def test_windows_of_a_batch_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 50, 2000).tolist()
    windows = Windows(sequences(lengths), 51, 32, seed=0)
    cells = sum(windows.build(0, step, indices).numel() for step, indices in enumerate(windows.plan(0)))
    assert cells < 1.1 * sum(lengths)
