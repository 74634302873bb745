"""Codes as moving averages of what chose them: one step, in torch and as one pass over the codes that are alive.

Both give the same numbers but for rounding. Codes whose average is too thin take an input in place of their mean, which
the compiled form then does not work out: with 2,048 codes and batches of 256 that is most of them.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.compiled import kernel

# N inputs, W width of a code, V codes.

SMOOTHING = 1e-5
Array = NDArray[np.float32]


def averaged(
    codes_VW: Tensor,
    sums_VW: Tensor,
    counts_V: Tensor,
    inputs_NW: Tensor,
    labels_N: Tensor,
    rows_V: Tensor,
    decay: float,
    below: float,
) -> None:
    """Moves codes, sums and counts, in place.

    Args:
        codes_VW: The codes.
        sums_VW: Moving sums of their inputs.
        counts_V: Moving numbers of their inputs.
        inputs_NW: A batch.
        labels_N: The code that each input chose.
        rows_V: The input that each code restarts at, if it does.
        decay: Of the averages.
        below: Codes of smaller counts restart.
    """
    counts_V.mul_(decay).index_add_(0, labels_N, counts_V.new_ones(len(labels_N)), alpha=1 - decay)
    sums_VW.mul_(decay).index_add_(0, labels_N, inputs_NW, alpha=1 - decay)
    total = counts_V.sum()
    smoothed_V = (counts_V + SMOOTHING) * (total / (total + len(counts_V) * SMOOTHING))
    torch.mul(sums_VW, smoothed_V.reciprocal()[:, None], out=codes_VW)
    dead = (counts_V < below).nonzero()[:, 0]
    fresh_RW = inputs_NW.index_select(0, rows_V[dead])
    codes_VW.index_copy_(0, dead, fresh_RW)
    sums_VW.index_copy_(0, dead, fresh_RW)
    counts_V.index_fill_(0, dead, 1)


def averaged_on_cpu(
    codes_VW: Tensor,
    sums_VW: Tensor,
    counts_V: Tensor,
    inputs_NW: Tensor,
    labels_N: Tensor,
    rows_V: Tensor,
    decay: float,
    below: float,
) -> None:
    """As `averaged`."""
    state = codes_VW.numpy(), sums_VW.numpy(), counts_V.numpy()
    _averaged(*state, inputs_NW.numpy(), labels_N.numpy(), rows_V.numpy(), np.float32(decay), np.float32(below))


@kernel
def _averaged(
    codes_VW: Array,
    sums_VW: Array,
    counts_V: Array,
    inputs_NW: Array,
    labels_N: NDArray[np.int64],
    rows_V: NDArray[np.int64],
    decay: np.float32,
    below: np.float32,
) -> None:
    rest, one = np.float32(1) - decay, np.float32(1)
    for v in range(len(counts_V)):
        counts_V[v] *= decay
    for n in range(len(labels_N)):
        counts_V[labels_N[n]] += rest
    total = np.float32(0)
    for v in range(len(counts_V)):
        total += counts_V[v]
        if counts_V[v] >= below:
            for w in range(sums_VW.shape[1]):
                sums_VW[v, w] *= decay
    for n in range(len(labels_N)):
        if counts_V[labels_N[n]] >= below:
            for w in range(sums_VW.shape[1]):
                sums_VW[labels_N[n], w] += rest * inputs_NW[n, w]
    share = total / (total + np.float32(len(counts_V) * SMOOTHING))
    for v in range(len(counts_V)):
        if counts_V[v] < below:
            counts_V[v] = one
            for w in range(sums_VW.shape[1]):
                sums_VW[v, w] = codes_VW[v, w] = inputs_NW[rows_V[v], w]
        else:
            factor = one / ((counts_V[v] + np.float32(SMOOTHING)) * share)
            for w in range(sums_VW.shape[1]):
                codes_VW[v, w] = sums_VW[v, w] * factor
