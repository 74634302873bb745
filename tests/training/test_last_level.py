"""Codes of the last level move only where items shared all codes, and to the best free ones."""

import numpy as np
import pytest
import torch

from modalrec.training.last_level import LastLevel, reassigned

# One coarse code of two, then one of four points in the unit square around it.
COARSE = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
FINE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])


def decode(codes: torch.Tensor) -> torch.Tensor:
    return COARSE[codes[:, 0]] + FINE[codes[:, 1]]


CODES = np.array([[0, 0], [1, 3], [0, 0], [0, 0], [1, 2]], np.int32)
VECTORS = np.array([[0, 0], [11, 1], [0.4, 0], [0, 0.3], [10, 1]], np.float32)


@pytest.mark.parametrize("way", ["sinkhorn", "distinct"])
def test_items_that_share_all_codes_move_to_the_nearest_free_ones(way: LastLevel) -> None:
    assert reassigned(CODES, VECTORS, 4, decode, way).tolist() == [[0, 0], [1, 3], [0, 1], [0, 2], [1, 2]]


def test_nearest_leaves_all_as_it_is() -> None:
    assert (reassigned(CODES, VECTORS, 4, decode, "nearest") == CODES).all()


def test_the_input_stays() -> None:
    before = CODES.copy()
    reassigned(CODES, VECTORS, 4, decode, "distinct")
    np.testing.assert_array_equal(CODES, before)


def test_equal_items_part_by_assignment_alone() -> None:
    codes, vectors = np.zeros((3, 2), np.int32), np.zeros((3, 2), np.float32)
    assert len(np.unique(reassigned(codes, vectors, 4, decode, "distinct"), axis=0)) == 3
    assert len(np.unique(reassigned(codes, vectors, 4, decode, "sinkhorn"), axis=0)) == 1


def test_more_items_than_codes_are_spread_evenly() -> None:
    codes = np.zeros((9, 2), np.int32)
    vectors = np.random.default_rng(0).random((9, 2)).astype(np.float32)
    found = reassigned(codes, vectors, 4, decode, "distinct")
    assert np.bincount(found[:, 1]).max() == 3


def test_one_level_alone() -> None:
    codes, vectors = np.zeros((3, 1), np.int32), np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    found = reassigned(codes, vectors, 4, lambda given: FINE[given[:, 0]], "distinct")
    assert found.tolist() == [[0], [1], [2]]
