import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data import counting
from modalrec.data.counting import count, present


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30), st.integers(1, 7))
def test_parts_count_as_the_whole(pairs, part):
    before, counting.PART = counting.PART, part
    try:
        numbers = np.array([number for number, _ in pairs], np.int32)
        chosen = np.array([flag for _, flag in pairs], np.bool_)
        assert count(numbers).tolist() == np.bincount(numbers).tolist()
        expected = {number for number, flag in pairs if flag}
        assert np.flatnonzero(present(numbers, chosen, 10)).tolist() == sorted(expected)
    finally:
        counting.PART = before
