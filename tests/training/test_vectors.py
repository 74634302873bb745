"""Batches of vectors: everything once, in an order that a resumed run sees again."""

import numpy as np

from modalrec.run import Run
from modalrec.training.vectors import Chosen, VectorBatches, every_row


def test_each_vector_once_an_epoch_in_another_order() -> None:
    vectors_ND = np.arange(10, dtype=np.float32)[:, None]
    batches = VectorBatches(vectors_ND, 4, Run("test", seed=5))
    plans = [np.concatenate(list(batches.plan(epoch))) for epoch in (0, 1)]
    assert [sorted(plan) for plan in plans] == [list(range(10))] * 2
    assert plans[0].tolist() != plans[1].tolist()
    assert [len(part) for part in batches.plan(0)] == [4, 4, 2]
    assert batches.build(0, 0, batches.plan(0)[0])[:, 0].tolist() == plans[0][:4].tolist()


def test_order_depends_on_the_seed_alone() -> None:
    vectors_ND = np.zeros((50, 1), np.float32)
    same = [np.concatenate(list(VectorBatches(vectors_ND, 8, Run("test", seed=s)).plan(3))) for s in (1, 1, 2)]
    assert same[0].tolist() == same[1].tolist()
    assert same[0].tolist() != same[2].tolist()


def test_chosen_rows_come_from_their_arrays_one_after_the_other() -> None:
    first, second = np.arange(12, dtype=np.float32).reshape(6, 2), -np.arange(8, dtype=np.float32).reshape(4, 2)
    chosen = Chosen([(first, np.array([4, 0])), (second, np.array([], np.int64)), (second, np.array([3]))])
    assert chosen.shape == (3, 2)
    assert chosen[np.array([2, 0, 2])].tolist() == [[-6, -7], [8, 9], [-6, -7]]
    assert np.concatenate(list(chosen.blocks())).tolist() == [[8, 9], [0, 1], [-6, -7]]
    assert np.allclose(chosen.mean(), [2 / 3, 1])


def test_a_mean_of_many_loses_no_digits() -> None:
    """A sum in single precision stops growing at 2^24 times a number."""
    vectors_ND = np.full((3, 1), 2.0**24, np.float32)
    vectors_ND[1:] = 1
    assert every_row(vectors_ND).mean()[0] == np.float32((2.0**24 + 2) / 3)
