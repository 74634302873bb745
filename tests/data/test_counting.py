from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.compiled import AVAILABLE
from modalrec.data import counting
from modalrec.data.counting import count, present

PAIRS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30)


@given(PAIRS, st.integers(1, 7))
def test_parts_count_as_the_whole(pairs, part):
    numbers = np.array([number for number, _ in pairs], np.int32)
    with mock.patch.object(counting, "PART", part):
        assert count(numbers).tolist() == np.bincount(numbers).tolist()


@pytest.mark.parametrize("compiled", [True, False] if AVAILABLE else [False])
@given(pairs=PAIRS)
def test_numbers_at_chosen_places_are_present(compiled, pairs):
    numbers = np.array([number for number, _ in pairs], np.int32)
    chosen = np.array([flag for _, flag in pairs], np.bool_)
    with mock.patch.object(counting, "AVAILABLE", compiled):
        found = present(numbers, chosen, 10)
    assert np.flatnonzero(found).tolist() == sorted({number for number, flag in pairs if flag})
