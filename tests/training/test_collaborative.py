"""Collaborative vectors: items of the same users are near, and no event after training is read."""

import numpy as np
import torch

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST, TRAIN, VALID
from modalrec.run import Run
from modalrec.training.collaborative import AlignedBatches, collaborative_vectors


def two_circles(last: int = 0) -> Sequences:
    """40 users, half of them among items 0 to 9, half among 10 to 19; then a validation and a test event."""
    rng = np.random.default_rng(0)
    rows = [[*rng.permutation(10)[:6] + 10 * (user % 2), last, last] for user in range(40)]
    split = np.tile(np.array([TRAIN] * 6 + [VALID, TEST], np.int8), 40)
    items = np.array(rows, np.int32).ravel()
    return Sequences(items, np.arange(0, len(items) + 1, 8), split, 22, "leave_one_out")


def test_items_of_the_same_users_are_near() -> None:
    vectors_NP = collaborative_vectors(two_circles(), 2)
    cosines_NN = vectors_NP @ vectors_NP.T
    assert cosines_NN[:10, :10].min() > 0.9
    assert abs(cosines_NN[:10, 10:20]).max() < 0.2
    np.testing.assert_allclose(np.linalg.norm(vectors_NP[:20], axis=1), 1, rtol=1e-5)


def test_validation_and_test_events_never_enter() -> None:
    first, second = (collaborative_vectors(two_circles(last), 4) for last in (20, 3))
    np.testing.assert_array_equal(first, second)
    assert not first[20:].any()


def test_more_numbers_than_the_matrix_has() -> None:
    few = Sequences(np.array([0, 1], np.int32), np.array([0, 2]), np.zeros(2, np.int8), 2, "leave_one_out")
    assert collaborative_vectors(few, 8).shape == (2, 8)
    none = Sequences(np.zeros(0, np.int32), np.array([0]), np.zeros(0, np.int8), 3, "leave_one_out")
    assert not collaborative_vectors(none, 8).any()


def test_batches_hold_the_partners_of_their_vectors() -> None:
    numbers = np.arange(10, dtype=np.float32)[:, None]
    batches = AlignedBatches(numbers, -numbers, 4, Run("quantize", quiet=True))
    for step, rows in enumerate(batches.plan(0)):
        batch = batches.build(0, step, rows)
        assert torch.equal(batch["vectors"], -batch["partners"])
