"""Positions make codes unique, whatever the codes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modalrec.data.semantic_ids import with_positions


def test_by_hand() -> None:
    codes = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [0, 1]], np.int32)
    distances = np.array([0.5, 0.1, 0.2, 0.5, 9.0], np.float32)
    assert with_positions(codes, distances).tolist() == [[1, 2, 1], [0, 0, 0], [1, 2, 0], [1, 2, 2], [0, 1, 0]]


def test_items_without_vector_come_last() -> None:
    codes = np.zeros((3, 1), np.int32)
    assert with_positions(codes, np.array([np.inf, 3.0, np.inf], np.float32))[:, -1].tolist() == [1, 0, 2]


@given(arrays(np.int32, st.tuples(st.integers(1, 60), st.integers(1, 3)), elements=st.integers(0, 2)), st.randoms())
def test_unique_and_without_gaps(codes: np.ndarray, random: object) -> None:
    distances = np.array([random.choice([0.0, 0.5, 1.0]) for _ in codes], np.float32)  # type: ignore[attr-defined]
    found = with_positions(codes, distances)
    assert (found[:, :-1] == codes).all()
    assert len(np.unique(found, axis=0)) == len(codes)
    for group in np.unique(codes, axis=0):
        rows = np.flatnonzero((codes == group).all(1))
        assert sorted(found[rows, -1]) == list(range(len(rows)))
        assert (np.diff(distances[rows][np.argsort(found[rows, -1])]) >= 0).all()
