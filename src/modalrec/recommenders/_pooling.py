"""The mean of an item's code embeddings, each distinct item of a batch once.

With K codes of a codebook of V, looking them up moves K vectors an item; counting them first needs one row of the
product counts_UV @ table_VD, forward and backward, which is far less when K is not far below V: the published form has
1,024 of each.
"""

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

# U items, K codes of an item, V codes of a codebook, D width.

COUNTED = 8
"""Codes are counted where there are more than V / 8 of them; fewer are looked up."""


def mean_of_codes(codes_UK: Tensor, table_VD: Tensor) -> Tensor:
    """The mean [U, D] of the rows of a table that the codes name."""
    if codes_UK.shape[1] * COUNTED < len(table_VD):
        return F.embedding_bag(codes_UK, table_VD, mode="mean")
    return counts(codes_UK, len(table_VD)) @ table_VD / codes_UK.shape[1]


def counts(codes_UK: Tensor, size: int) -> Tensor:
    """How often each code occurs, [U, V] float."""
    counts_UV = torch.zeros(len(codes_UK), size, device=codes_UK.device)
    if codes_UK.device.type == "cpu":
        _count(codes_UK.numpy(), counts_UV.numpy())
        return counts_UV
    return counts_UV.scatter_add_(1, codes_UK.long(), torch.ones_like(codes_UK, dtype=torch.float32))


@numba.njit(cache=True)
def _count(codes_UK: NDArray[np.int32], counts_UV: NDArray[np.float32]) -> None:
    for row in range(codes_UK.shape[0]):
        for place in range(codes_UK.shape[1]):
            counts_UV[row, codes_UK[row, place]] += 1.0
