"""Batches of vectors: everything once, in an order that a resumed run sees again."""

import numpy as np
import torch

from modalrec.run import Run
from modalrec.training.vectors import VectorBatches


def test_each_vector_once_an_epoch_in_another_order() -> None:
    vectors_ND = torch.arange(10.0)[:, None]
    batches = VectorBatches(vectors_ND, 4, Run("test", seed=5))
    plans = [np.concatenate(list(batches.plan(epoch))) for epoch in (0, 1)]
    assert [sorted(plan) for plan in plans] == [list(range(10))] * 2
    assert plans[0].tolist() != plans[1].tolist()
    assert [len(part) for part in batches.plan(0)] == [4, 4, 2]
    assert batches.build(0, 0, batches.plan(0)[0])[:, 0].tolist() == plans[0][:4].tolist()


def test_order_depends_on_the_seed_alone() -> None:
    vectors_ND = torch.zeros(50, 1)
    same = [np.concatenate(list(VectorBatches(vectors_ND, 8, Run("test", seed=s)).plan(3))) for s in (1, 1, 2)]
    assert same[0].tolist() == same[1].tolist()
    assert same[0].tolist() != same[2].tolist()
