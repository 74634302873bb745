"""Codes of residuals, one level after the other, from one matrix product for all levels.

The score of code k at level l is |r_l - e_k|^2 - |r_l|^2 = |e_k|^2 - 2 x.e_k + 2 sum_{j < l} e_{c_j}.e_k. Products
between codes are a table, so nothing but x.e needs arithmetic over the width, and residuals are never formed.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from modalrec.compiled import AVAILABLE, inlined, kernel
from modalrec.training.kmeans import nearest

# N items, W width, L levels, V codes of a level, B rows of a block.

BLOCK_ROWS = 256
"""Products of a block stay in a core's cache: 768 KiB for 3 levels of 256 codes."""
TABLE_CODES = 1024
"""Tables of products between larger codebooks would cost more than they spare."""


@torch.no_grad()
def residual_codes(inputs_NW: Tensor, codes_LVW: Tensor, *, cosine: bool = False) -> Tensor:
    """The nearest code of each level's residual [N, L], int64; the first one of several as near.

    Args:
        inputs_NW: What to code.
        codes_LVW: Codebooks.
        cosine: Nearest by cosine instead of distance.
    """
    size = codes_LVW.shape[1]
    on_cpu = inputs_NW.device.type == "cpu" and inputs_NW.dtype == torch.float32
    if AVAILABLE and on_cpu and size <= TABLE_CODES and len(inputs_NW) >= 4 * size:
        return _from_products(inputs_NW, codes_LVW, cosine)
    residuals_NW, labels = inputs_NW, []
    for codes_VW in codes_LVW:
        if cosine:
            labels.append((residuals_NW @ F.normalize(codes_VW, dim=1).T).argmax(1))
        else:
            labels.append(nearest(residuals_NW, codes_VW)[0])
        residuals_NW = residuals_NW - codes_VW[labels[-1]]
    return torch.stack(labels, 1)


def _from_products(inputs_NW: Tensor, codes_LVW: Tensor, cosine: bool) -> Tensor:
    levels, size, width = codes_LVW.shape
    keys_LVW = F.normalize(codes_LVW, dim=2) if cosine else codes_LVW
    norms_LV = codes_LVW.new_zeros(levels, size) if cosine else codes_LVW.pow(2).sum(2)
    # table[l, c, j] are the products of code c of level l with all keys of the later level j
    table_LVJ = 2 * (codes_LVW.reshape(-1, width) @ keys_LVW.reshape(-1, width).T).view(levels, size, -1)
    keys_WJ = np.ascontiguousarray(-2 * keys_LVW.detach().reshape(-1, width).numpy().T)
    norms, table = norms_LV.detach().numpy(), np.ascontiguousarray(table_LVJ.detach().numpy())
    inputs = np.ascontiguousarray(inputs_NW.detach().numpy())
    found = np.empty((len(inputs), levels), np.int64)
    products = np.empty((BLOCK_ROWS, levels * size), np.float32)
    for begin in range(0, len(inputs), BLOCK_ROWS):
        block = inputs[begin : begin + BLOCK_ROWS]
        np.matmul(block, keys_WJ, out=products[: len(block)])
        _choose(products[: len(block)], norms, table, found[begin : begin + len(block)])
    return torch.from_numpy(found)


@kernel
def _choose(
    products_BJ: NDArray[np.float32],
    norms_LV: NDArray[np.float32],
    table_LVJ: NDArray[np.float32],
    found_BL: NDArray[np.int64],
) -> None:
    """The least score of each level, adding what the codes chosen before take away."""
    levels, size = norms_LV.shape
    for row in range(len(products_BJ)):
        for level in range(levels):
            first = level * size
            scores_V = products_BJ[row, first : first + size]
            if level == 0:
                for code in range(size):
                    scores_V[code] += norms_LV[level, code]
            elif level == 1:
                own_V = table_LVJ[0, found_BL[row, 0], first : first + size]
                for code in range(size):
                    scores_V[code] += norms_LV[level, code] + own_V[code]
            else:
                for code in range(size):
                    scores_V[code] += norms_LV[level, code]
                for before in range(level):
                    own_V = table_LVJ[before, found_BL[row, before], first : first + size]
                    for code in range(size):
                        scores_V[code] += own_V[code]
            found_BL[row, level] = _place_of_least(scores_V)


@inlined
def _place_of_least(scores_V: Any) -> Any:
    """The first place of the least number: first the number, then the stretch that has it, both in vector code."""
    size = len(scores_V)
    least = scores_V[0]
    for code in range(size):
        least = min(least, scores_V[code])
    begin, place = 0, size
    while begin < size and place == size:
        end = min(begin + 32, size)
        for code in range(end - begin):
            place = min(place, begin + code if scores_V[begin + code] == least else size)
        begin = end
    return min(place, size - 1)
