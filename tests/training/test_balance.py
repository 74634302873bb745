"""Capacities hold, plans are balanced, and the cheapest assignment is the cheapest."""

import itertools

import numpy as np
import pytest
import torch

from modalrec.training.balance import balanced, least_cost, sinkhorn
from modalrec.training.kmeans import kmeans


def test_plan_is_balanced() -> None:
    costs_NV = torch.rand(40, 8, generator=torch.Generator().manual_seed(0))
    plan_NV = sinkhorn(costs_NV, 0.05, rounds=500)
    torch.testing.assert_close(plan_NV.sum(0), torch.full((8,), 1 / 8, dtype=torch.float64))
    torch.testing.assert_close(plan_NV.sum(1), torch.full((40,), 1 / 40, dtype=torch.float64))


def test_plan_costs_less_than_an_even_one() -> None:
    costs_NV = torch.rand(40, 8, generator=torch.Generator().manual_seed(0)).double()
    assert (sinkhorn(costs_NV, 0.02) * costs_NV).sum() < 0.4 * costs_NV.mean()


@pytest.mark.parametrize("epsilon", [1e-5, 0.003, 1.0])
@pytest.mark.parametrize("costs_NV", [torch.zeros(6, 3), torch.full((1, 4), 7.0), torch.eye(5) * 1e6])
def test_plan_of_extreme_costs_is_finite(costs_NV: torch.Tensor, epsilon: float) -> None:
    assert torch.isfinite(sinkhorn(costs_NV, epsilon)).all()


@pytest.mark.parametrize(("n", "v"), [(40, 8), (41, 8), (3, 8), (500, 7), (1, 1)])
def test_capacities_hold(n: int, v: int) -> None:
    costs_NV = torch.rand(n, v, generator=torch.Generator().manual_seed(n))
    counts_V = torch.bincount(balanced(costs_NV), minlength=v)
    assert counts_V.sum() == n
    assert counts_V.max() <= -(-n // v)


def test_balanced_labels_are_near_the_least_cost() -> None:
    costs_NV = torch.rand(60, 6, generator=torch.Generator().manual_seed(3))
    rows = np.arange(60)
    best = costs_NV.numpy()[rows, least_cost(costs_NV.numpy())].sum()
    assert costs_NV.numpy()[rows, balanced(costs_NV).numpy()].sum() < 1.15 * best < 0.5 * 60 * costs_NV.mean()


def test_least_cost_by_trying_everything() -> None:
    costs_NV = np.random.default_rng(0).random((4, 5), np.float32)
    tried = min(sum(costs_NV[row, v] for row, v in enumerate(p)) for p in itertools.permutations(range(5), 4))
    labels = least_cost(costs_NV)
    assert len(set(labels.tolist())) == 4
    assert costs_NV[np.arange(4), labels].sum() == pytest.approx(tried)


def test_more_points_than_codes_share_them_evenly() -> None:
    labels = least_cost(np.random.default_rng(0).random((11, 4), np.float32))
    assert np.bincount(labels, minlength=4).max() == 3


def test_balanced_k_means_has_even_clusters_and_a_larger_inertia() -> None:
    points_ND = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)) ** 3
    free = kmeans(points_ND, 10, generator=torch.Generator().manual_seed(0))
    even = kmeans(points_ND, 10, generator=torch.Generator().manual_seed(0), balanced=True)
    assert torch.bincount(free.labels_N).max() > 60
    assert torch.bincount(even.labels_N).tolist() == [30] * 10
    assert free.inertia < even.inertia < 0.7 * float((points_ND - points_ND.mean(0)).pow(2).sum())
    means_VD = torch.stack([points_ND[even.labels_N == label].mean(0) for label in range(10)])
    torch.testing.assert_close(even.centres_VD, means_VD, atol=1e-4, rtol=0)
