"""Merged lists against sorting all scores at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modalrec.evaluation.top_lists import TopLists


@settings(max_examples=60, deadline=None)
@given(
    n_items=st.integers(1, 300),
    k=st.integers(1, 12),
    tile=st.integers(1, 120),
    values=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_any_tiling_gives_the_same_lists(n_items: int, k: int, tile: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, values, (4, n_items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    lists = TopLists(4, k)
    for begin in range(0, n_items, tile):
        lists.update(scores[:, begin : begin + tile], begin)
    for row in range(4):
        items = [item for item in range(n_items) if not np.isnan(scores[row, item])]
        expected = sorted(items, key=lambda item: (-scores[row, item], item))[:k]
        assert lists.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert lists.scores[row, : len(expected)].tolist() == scores[row, expected].tolist()


@pytest.mark.parametrize("k", [1, 5])
def test_minus_infinity_is_never_listed(k: int) -> None:
    lists = TopLists(1, k)
    lists.update(np.array([[-np.inf, 2.0, -np.inf]], np.float32), 0)
    assert lists.items[0].tolist() == [1] + [-1] * (k - 1)
