"""Assignments under capacities: Sinkhorn's, equally large clusters, and no two items alike.

Entropic optimal transport (Cuturi, "Sinkhorn Distances", 2013): with K = exp(-d / eps), scaling rows and columns in
turn until rows sum to 1/N and columns to 1/V gives the plan of least cost d plus eps times its negative entropy.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# N points, V clusters or codes.

SHARPNESS = 0.01
"""Entropy of the plan that balanced clusters are read off, as a share of the spread of the costs."""


def sinkhorn(costs_NV: Tensor, epsilon: float, rounds: int = 50) -> Tensor:
    """The balanced plan [N, V] in double precision: rows sum to 1/N, columns to 1/V as nearly as the rounds get.

    Costs are first brought to [-1, 1], as in LC-Rec (its epsilon is .003 and its rounds are 50).
    """
    costs_NV = costs_NV.double()
    low, high = costs_NV.min(), costs_NV.max()
    scaled_NV = (costs_NV - (high + low) / 2) / ((high - low) / 2 + 1e-12)
    # The least cost of a row becomes 0: no row vanishes, whatever epsilon, and the plan stays the same.
    kernel_NV = torch.exp((scaled_NV.min(1, keepdim=True).values - scaled_NV) / epsilon)
    rows_N, columns_V = kernel_NV.new_ones(len(kernel_NV)), kernel_NV.new_ones(kernel_NV.shape[1])
    tiny = torch.finfo(torch.float64).tiny
    for _ in range(rounds):
        columns_V = 1 / (kernel_NV.shape[1] * (rows_N @ kernel_NV)).clamp_(min=tiny)
        rows_N = 1 / (len(kernel_NV) * (kernel_NV @ columns_V)).clamp_(min=tiny)
    return rows_N[:, None] * kernel_NV * columns_V


def balanced(costs_NV: Tensor) -> Tensor:
    """Labels [N] with at most ceil(N / V) points per cluster, near the least cost.

    Points take the cluster of their largest share of Sinkhorn's plan; where more come than there is room, the largest
    shares stay and the others take the best cluster with room, until all have one.
    """
    n, v = costs_NV.shape
    shares_NV = sinkhorn(costs_NV, SHARPNESS).clamp_(min=0)
    room_V = torch.full((v,), -(-n // v), dtype=torch.int64, device=costs_NV.device)
    labels_N = torch.full((n,), -1, dtype=torch.int64, device=costs_NV.device)
    # Shares that underflow are equal; costs then decide.
    keys_NV = shares_NV.log().clamp_(min=-700) - 1e-6 * costs_NV.double() / (costs_NV.max().double() + 1e-12)
    while (left := (labels_N < 0).nonzero()[:, 0]).numel():
        best = keys_NV[left].masked_fill(room_V == 0, -torch.inf).max(1)
        order = best.values.argsort(descending=True, stable=True)
        order = order[best.indices[order].argsort(stable=True)]
        wanted = best.indices[order]
        first = torch.searchsorted(wanted, wanted)
        stays = torch.arange(len(wanted), device=wanted.device) - first < room_V[wanted]
        labels_N[left[order[stays]]] = wanted[stays]
        room_V -= torch.bincount(wanted[stays], minlength=v)
    return labels_N


def least_cost(costs_NV: NDArray[np.float32]) -> NDArray[np.int64]:
    """Labels [N] of least total cost with at most ceil(N / V) points per code: all different where N <= V."""
    n, v = costs_NV.shape
    _, columns = linear_sum_assignment(np.tile(costs_NV.astype(np.float64), (1, -(-n // v))))
    labels: NDArray[np.int64] = columns % v
    return labels
