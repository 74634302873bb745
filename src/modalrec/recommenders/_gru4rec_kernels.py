"""The parts of a training step of GRU4Rec as fused kernels: each walks its data once.

The torch step (`_gru4rec_torch`) computes the same numbers; tests compare the two.
"""

import math
from typing import Any

import numpy as np

from modalrec.compiled import exp, finite_kernel, inlined, kernel, prefetch, sigmoid, tanh

# M lanes, U distinct columns of the scores, D width of an item's row, H width of a layer.

LINE = 16
"""Floats of a cache line."""
AHEAD, LINES = 3, 24
"""Rows to ask the memory for in advance, and how much of each: the rest of a long row the processor foresees."""

_EPSILON = np.float32(1e-24)
_ADAGRAD = np.float32(1e-6)
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)
_LEAST = np.float32(-3.4e38)


@kernel
def gather(table: Any, stride: int, width: int, rows: Any, out_UD: Any, extra_U: Any) -> None:
    """Copies rows of a flat table, and, where `extra_U` has room for it, the number behind each."""
    bias = extra_U.size > 0
    for u in range(rows.size):
        if u + AHEAD < rows.size:
            ahead = np.intp(rows[u + AHEAD]) * stride
            for j in range(0, width + 1, LINE):
                prefetch(table, ahead + j)
        begin = np.intp(rows[u]) * stride
        row, out = table[begin : begin + width + 1], out_UD[u]
        for j in range(width):
            out[j] = row[j]
        if bias:
            extra_U[u] = row[width]


@kernel
def adagrad_rows(
    table: Any, stride: int, width: int, rows: Any, n_biased: int, grad_UD: Any, grad_U: Any, rate: Any, momentum: Any
) -> None:
    """Updates distinct rows in place: acc += g^2, step = -rate * g / sqrt(acc + 1e-6), m = momentum * m + step, w += m.

    A row holds its weights, perhaps followed by a bias (then the first `n_biased` rows update that too), then as many
    accumulators, then, with momentum, as many velocities.
    """
    size = width + (1 if grad_U.size > 0 else 0)
    for u in range(rows.size):
        if u + AHEAD < rows.size:
            ahead = np.intp(rows[u + AHEAD]) * stride
            for j in range(0, min(stride, LINES * LINE), LINE):
                prefetch(table, ahead + j)
        begin = np.intp(rows[u]) * stride
        weight, grad = table[begin : begin + size], grad_UD[u]
        square = table[begin + size : begin + 2 * size]
        if momentum > _ZERO:
            velocity = table[begin + 2 * size : begin + 3 * size]
            for j in range(width):
                total = square[j] + grad[j] * grad[j]
                square[j] = total
                moved = momentum * velocity[j] - rate * grad[j] / math.sqrt(total + _ADAGRAD)
                velocity[j] = moved
                weight[j] += moved
            if u < n_biased:
                total = square[width] + grad_U[u] * grad_U[u]
                square[width] = total
                moved = momentum * velocity[width] - rate * grad_U[u] / math.sqrt(total + _ADAGRAD)
                velocity[width] = moved
                weight[width] += moved
        else:
            for j in range(width):
                total = square[j] + grad[j] * grad[j]
                square[j] = total
                weight[j] -= rate * grad[j] / math.sqrt(total + _ADAGRAD)
            if u < n_biased:
                total = square[width] + grad_U[u] * grad_U[u]
                square[width] = total
                weight[width] -= rate * grad_U[u] / math.sqrt(total + _ADAGRAD)


@kernel
def adagrad_dense(weight: Any, square: Any, velocity: Any, grad: Any, rate: Any, momentum: Any) -> None:
    """The same update of flat arrays."""
    if momentum > _ZERO:
        for j in range(weight.size):
            total = square[j] + grad[j] * grad[j]
            square[j] = total
            moved = momentum * velocity[j] - rate * grad[j] / math.sqrt(total + _ADAGRAD)
            velocity[j] = moved
            weight[j] += moved
    else:
        for j in range(weight.size):
            total = square[j] + grad[j] * grad[j]
            square[j] = total
            weight[j] -= rate * grad[j] / math.sqrt(total + _ADAGRAD)


@inlined
def _mixed(bits: Any) -> Any:
    """Scrambles 32 bits (Wellons' lowbias32): a counter becomes a random number, whatever the order of the calls.

    Numba widens what two uint32 give to 64 bits; hence the casts, without which nothing is ever dropped.
    """
    bits = np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))
    bits = np.uint32(bits * np.uint32(0x7FEB352D))
    bits = np.uint32(bits ^ np.uint32(bits >> np.uint32(15)))
    bits = np.uint32(bits * np.uint32(0x846CA68B))
    return np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))


@kernel
def dropout_mask(mask: Any, share: float, seed: int, epoch: int, step: int, layer: int) -> None:
    """Fills a flat array with 0 (at the given share) and 1 / (1 - share), from the numbers that name the place."""
    key = _mixed(np.uint32(np.uint32(seed) ^ np.uint32(0x9E3779B9)))
    key = _mixed(np.uint32(key + np.uint32(epoch)))
    key = _mixed(np.uint32(key + np.uint32(step)))
    key = _mixed(np.uint32(key + np.uint32(layer)))
    bound = np.uint32(share * 4294967296.0)
    kept = np.float32(1.0 / (1.0 - share))
    for j in range(mask.size):
        mask[j] = kept if _mixed(np.uint32(key + np.uint32(j))) >= bound else _ZERO


@finite_kernel
def _top(row: Any, least: Any) -> Any:
    """The largest of some numbers."""
    for u in range(row.size):
        least = max(least, row[u])
    return least


@kernel
def cross_entropy(
    scores_MU: Any, bias_U: Any, weight_U: Any, positive: Any, own_M: Any, scale: Any, grad_U: Any
) -> Any:
    """Cross-entropy over the columns, each counted `weight_U` times; the scores become their gradient.

    A column's weight is the sum of exp(-logq * c) over its occurrences, which merges repeated columns exactly. The loss
    of a lane is -ln(own * exp(s_positive) / sum_u weight_u exp(s_u) + 1e-24).

    Args:
        scores_MU: Scores without bias; overwritten with `scale` times the gradient.
        bias_U: Added to the scores.
        weight_U: Weight of each column.
        positive: [M] each lane's target column.
        own_M: exp(-logq * c) of each lane's target.
        scale: Factor of the gradient, 1 / batch size.
        grad_U: Is set to the gradient of the biases.

    Returns:
        The sum of the lanes' losses.
    """
    width = scores_MU.shape[1]
    for u in range(width):
        grad_U[u] = _ZERO
    loss = 0.0
    for lane in range(scores_MU.shape[0]):
        row = scores_MU[lane]
        for u in range(width):
            row[u] += bias_U[u]
        top = _top(row, row[0])
        total = _ZERO
        at = positive[lane]
        for u in range(width):
            row[u] = exp(row[u] - top) * weight_U[u]
            total += row[u]
        probability = row[at] / weight_U[at] * own_M[lane] / total
        loss -= math.log(probability + _EPSILON)
        share = scale * probability / (probability + _EPSILON)
        factor = share / total
        for u in range(width):
            row[u] *= factor
            grad_U[u] += row[u]
        row[at] -= share
        grad_U[at] -= share
    return loss


@kernel
def bpr_max(
    scores_MU: Any,
    bias_U: Any,
    weight_U: Any,
    positive: Any,
    elu: Any,
    bpreg: Any,
    scale: Any,
    grad_U: Any,
    exp_U: Any,
    sigma_U: Any,
) -> Any:
    """BPR-max (Hidasi and Karatzoglou 2018, eq. 9 and 12) over columns that occur `weight_U` times.

    With o = ELU(s), w_j the softmax of the negatives and sigma_j = sigmoid(o_pos - o_j), the loss of a lane is
    -ln(sum_j w_j sigma_j + 1e-24) + bpreg * sum_j w_j o_j^2. One occurrence of the target column is the positive.

    Args:
        scores_MU: Scores without bias; overwritten with `scale` times the gradient.
        bias_U: Added to the scores.
        weight_U: Occurrences of each column.
        positive: [M] each lane's target column.
        elu: The ELU's parameter; 0 is the identity.
        bpreg: Weight of the score regularisation.
        scale: Factor of the gradient, 1 / batch size.
        grad_U: Is set to the gradient of the biases.
        exp_U: Scratch.
        sigma_U: Scratch.

    Returns:
        The sum of the lanes' losses.
    """
    width = scores_MU.shape[1]
    for u in range(width):
        grad_U[u] = _ZERO
    loss = 0.0
    for lane in range(scores_MU.shape[0]):
        row = scores_MU[lane]
        at = positive[lane]
        if elu > _ZERO:
            for u in range(width):
                score = row[u] + bias_U[u]
                # Without a branch, which would keep the loop from being vectorised.
                score = max(score, _ZERO) + elu * (exp(min(score, _ZERO)) - _ONE)
                row[u] = score
        else:
            for u in range(width):
                row[u] += bias_U[u]
        # The positive is no negative of its own. It stays out of the maximum and the sum: taken off afterwards, a large
        # one would leave the others' rounding error.
        own, count = row[at], weight_U[at]
        weight_U[at] = count - _ONE
        if count == _ONE:
            row[at] = _LEAST
        top = _top(row, _LEAST)
        row[at] = own
        total = _ZERO
        for u in range(width):
            exp_U[u] = weight_U[u] * exp(row[u] - top)
            total += exp_U[u]
        weight_U[at] = count
        # A lane without any negative has no weights.
        total = total if total > _ZERO else _ONE
        inverse = _ONE / total
        pull, square, slope = _ZERO, _ZERO, _ZERO
        for u in range(width):
            w = exp_U[u] * inverse
            o = row[u]
            sigma = _ONE / (_ONE + exp(o - own))
            exp_U[u] = w
            sigma_U[u] = sigma
            pull += w * sigma
            square += w * o * o
            slope += w * sigma * (_ONE - sigma)
        loss += bpreg * square - math.log(pull + _EPSILON)
        factor = _ONE / (pull + _EPSILON)
        for u in range(width):
            w, sigma, o = exp_U[u], sigma_U[u], row[u]
            g = bpreg * w * (o * o - square + _TWO * o) - factor * w * (sigma - pull - sigma * (_ONE - sigma))
            g = g * scale * (_ONE if o > _ZERO or elu == _ZERO else o + elu)
            row[u] = g
            grad_U[u] += g
        g = -factor * slope * scale
        if elu > _ZERO and own <= _ZERO:
            g *= own + elu
        row[at] += g
        grad_U[at] += g
    return loss


@kernel
def gates_forward(
    input_MG: Any, state_AG: Any, bias_ih: Any, bias_hh: Any, slot: Any, hidden_MH: Any, saved_M4H: Any, mask_MH: Any
) -> None:
    """The gates of a GRU cell: r, z, n, then h' = (1 - z) n + z h, dropped out where there is a mask.

    Args:
        input_MG: Products of the input with the three gates' weights.
        state_AG: Products of the state, for the lanes that have one.
        bias_ih: Biases of the input's products.
        bias_hh: Biases of the state's products.
        slot: [M] a lane's row in `state_AG`, -1 for a fresh lane, whose state is zero.
        hidden_MH: The states; overwritten.
        saved_M4H: Takes r, z, n and the state's part of n, for the way back.
        mask_MH: Factors of the output, or an empty array.
    """
    lanes, width = hidden_MH.shape
    dropped = mask_MH.size > 0
    for lane in range(lanes):
        x, h, saved = input_MG[lane], hidden_MH[lane], saved_M4H[lane]
        r, z, n, part = saved[:width], saved[width : 2 * width], saved[2 * width : 3 * width], saved[3 * width :]
        if slot[lane] >= 0:
            s = state_AG[slot[lane]]
            for j in range(width):
                part[j] = s[2 * width + j] + bias_hh[2 * width + j]
                r[j] = sigmoid(x[j] + bias_ih[j] + s[j] + bias_hh[j])
                z[j] = sigmoid(x[width + j] + bias_ih[width + j] + s[width + j] + bias_hh[width + j])
                n[j] = tanh(x[2 * width + j] + bias_ih[2 * width + j] + r[j] * part[j])
                h[j] = (_ONE - z[j]) * n[j] + z[j] * h[j]
        else:
            for j in range(width):
                part[j] = bias_hh[2 * width + j]
                r[j] = sigmoid(x[j] + bias_ih[j] + bias_hh[j])
                z[j] = sigmoid(x[width + j] + bias_ih[width + j] + bias_hh[width + j])
                n[j] = tanh(x[2 * width + j] + bias_ih[2 * width + j] + r[j] * part[j])
                h[j] = (_ONE - z[j]) * n[j]
        if dropped:
            for j in range(width):
                h[j] *= mask_MH[lane, j]


@kernel
def gates_backward(
    grad_MH: Any,
    before_AH: Any,
    slot: Any,
    saved_M4H: Any,
    mask_MH: Any,
    grad_input_MG: Any,
    grad_state_AG: Any,
    grad_bias_ih: Any,
    grad_bias_hh: Any,
) -> None:
    """From the gradient of a cell's output to those of the products of its input and its state, and of the biases.

    Args:
        grad_MH: Of the output.
        before_AH: The states before the step, of the lanes that had one.
        slot: [M] as in `gates_forward`.
        saved_M4H: As written there.
        mask_MH: As given there.
        grad_input_MG: Is set.
        grad_state_AG: Is set.
        grad_bias_ih: [3H] is set.
        grad_bias_hh: [3H] is set.
    """
    lanes, width = grad_MH.shape
    dropped = mask_MH.size > 0
    for j in range(3 * width):
        grad_bias_ih[j] = _ZERO
        grad_bias_hh[j] = _ZERO
    for lane in range(lanes):
        grad, saved, out = grad_MH[lane], saved_M4H[lane], grad_input_MG[lane]
        r, z, n, part = saved[:width], saved[width : 2 * width], saved[2 * width : 3 * width], saved[3 * width :]
        if dropped:
            for j in range(width):
                grad[j] *= mask_MH[lane, j]
        if slot[lane] >= 0:
            h = before_AH[slot[lane]]
            for j in range(width):
                dn = grad[j] * (_ONE - z[j]) * (_ONE - n[j] * n[j])
                out[2 * width + j] = dn
                out[width + j] = grad[j] * (h[j] - n[j]) * z[j] * (_ONE - z[j])
                out[j] = dn * part[j] * r[j] * (_ONE - r[j])
            state = grad_state_AG[slot[lane]]
            for j in range(width):
                state[j] = out[j]
                state[width + j] = out[width + j]
                state[2 * width + j] = out[2 * width + j] * r[j]
        else:
            for j in range(width):
                dn = grad[j] * (_ONE - z[j]) * (_ONE - n[j] * n[j])
                out[2 * width + j] = dn
                out[width + j] = -grad[j] * n[j] * z[j] * (_ONE - z[j])
                out[j] = dn * part[j] * r[j] * (_ONE - r[j])
        for j in range(3 * width):
            grad_bias_ih[j] += out[j]
        for j in range(2 * width):
            grad_bias_hh[j] += out[j]
        for j in range(width):
            grad_bias_hh[2 * width + j] += out[2 * width + j] * r[j]
