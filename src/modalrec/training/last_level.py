"""Moving items that share all codes to other codes of the last level.

`distinct` assigns the last codes of each group that shares all codes but the last, at the least total error and no
code twice (Kuhn, "The Hungarian Method", 1955): exact, and the first choice. `sinkhorn` is LC-Rec's way (Zheng et al.,
2023, arXiv 2311.09049, section 3.1.2): each group that shares all codes takes what Sinkhorn's plan over the group says,
again and again, at most 20 times; equal vectors have equal rows of the plan and stay together.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.training.balance import least_cost, sinkhorn
from modalrec.training.vectors import Chosen

# N items, D dimension, L levels, V codes of the last level, G items of a group.

LastLevel = Literal["nearest", "sinkhorn", "distinct"]
Decode = Callable[[Tensor], Tensor]

EPSILON, ROUNDS = 0.003, 20
BLOCK_ROWS = 65_536
LARGEST = 16_000_000
"""Entries of the largest table of costs, 128 MB; the items of a larger group stay where they are."""


def reassigned(
    codes_NL: NDArray[np.int32], vectors_ND: Chosen | NDArray[np.float32], size: int, decode: Decode, way: LastLevel
) -> NDArray[np.int32]:
    """New codes, of which only the last level may differ, and only in groups where items shared all codes.

    Args:
        codes_NL: The nearest codes.
        vectors_ND: What they code.
        size: Codes of the last level, V.
        decode: What codes stand for; the cost of a code is the squared error of the item's reconstruction.
        way: See the module's text; `nearest` changes nothing.
    """
    codes_NL = codes_NL.copy()
    if way == "distinct":
        for rows in _groups(codes_NL[:, :-1]):
            entries = len(rows) * size * -(-len(rows) // size)
            if len(np.unique(codes_NL[rows, -1])) < len(rows) and entries <= LARGEST:
                codes_NL[rows, -1] = least_cost(_costs(codes_NL[rows], vectors_ND[rows], size, decode))
    elif way == "sinkhorn":
        for _ in range(ROUNDS):
            before = codes_NL.copy()
            for rows in _groups(codes_NL):
                costs_GV = torch.from_numpy(_costs(codes_NL[rows], vectors_ND[rows], size, decode))
                codes_NL[rows, -1] = sinkhorn(costs_GV, EPSILON).argmax(1).numpy()
            if (before == codes_NL).all():
                break
    return codes_NL


def _groups(codes_NL: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """The rows of each group of at least two items with equal codes; of all items where there are no codes."""
    order = np.lexsort(codes_NL.T[::-1]) if codes_NL.shape[1] else np.arange(len(codes_NL))
    starts = np.flatnonzero((codes_NL[order][1:] != codes_NL[order][:-1]).any(axis=1)) + 1
    return [rows for rows in np.split(order, starts) if len(rows) > 1]


def _costs(
    codes_GL: NDArray[np.int32], vectors_GD: NDArray[np.float32], size: int, decode: Decode
) -> NDArray[np.float32]:
    """Squared error of each item's reconstruction with each last code [G, V]; prefixes may differ."""
    step = max(1, BLOCK_ROWS // size)
    parts = []
    for begin in range(0, len(codes_GL), step):
        codes = torch.from_numpy(codes_GL[begin : begin + step]).long().repeat_interleave(size, 0)
        codes[:, -1] = torch.arange(size).repeat(len(codes) // size)
        wanted_D = torch.from_numpy(vectors_GD[begin : begin + step]).repeat_interleave(size, 0)
        parts.append((decode(codes) - wanted_D).pow(2).sum(1).view(-1, size).numpy())
    return np.concatenate(parts)
