"""The training step of GRU4Rec as one compiled function, which runs many steps without returning to Python.

Three things make it fast, and none changes the mathematics: the step is written with its gradients instead of being
recorded and replayed; columns of the scores that repeat (an item drawn twice, two lanes with one target) are computed
once and weighted by their number; a fresh lane's state is zero and multiplied with nothing.
"""

from typing import Any

import numpy as np

from modalrec.compiled import kernel
from modalrec.recommenders._gru4rec_kernels import (
    adagrad_dense,
    adagrad_rows,
    bpr_max,
    cross_entropy,
    dropout_mask,
    gates_backward,
    gates_forward,
    gather,
)

# M lanes of a step, A of them with a state, U distinct columns, R distinct rows, D width of an item, H of a layer.


@kernel
def run_steps(
    table: Any, embed: Any, shared: bool, layers: Any, dense: Any, hidden: Any, chunk: Any, options: Any, memory: Any
) -> Any:
    """Trains over consecutive steps, in place.

    Args:
        table: `Table` of the items' output rows, with biases.
        embed: `Table` of the input rows; not looked at when `shared`.
        shared: Inputs are rows of `table`.
        layers: [L] widths.
        dense: `Dense` weights of the cells.
        hidden: Flat states, per layer [batch_size, H].
        chunk: `Chunk`.
        options: `Options`.
        memory: `Scratch`.

    Returns:
        Sum over the steps of loss * lanes, where the loss of a step is the sum over its lanes / batch size.
    """
    total = 0.0
    begin = 0
    none = np.zeros(0, np.float32)
    for step in range(chunk.lanes.size):
        lanes = int(chunk.lanes[step])
        inputs = chunk.inputs[begin : begin + lanes]
        targets = chunk.targets[begin : begin + lanes]
        origins = chunk.origins[begin : begin + lanes]
        begin += lanes
        place = (chunk.epoch, chunk.first + step)

        # The distinct rows: columns of the scores first, then inputs that are none of them.
        n_columns = _columns(table.slots, targets, chunk.samples[step], options, memory)
        n_rows, n_embed = n_columns, 0
        if shared:
            n_rows = _inputs(table.slots, memory.columns, n_columns, inputs, memory.input_slots)
        else:
            n_embed = _inputs(embed.slots, memory.embed_columns, 0, inputs, memory.input_slots)
        columns, extra = memory.columns[:n_columns], memory.columns[n_columns:n_rows]
        rows = memory.rows[: n_rows * table.width].reshape(n_rows, table.width)
        gather(table.flat, table.stride, table.width, columns, rows, memory.bias[:n_columns])
        gather(table.flat, table.stride, table.width, extra, rows[n_columns:], none)
        picked = memory.embed_columns[:n_embed]
        embed_rows = memory.embed_rows[: n_embed * embed.width].reshape(n_embed, embed.width)
        gather(embed.flat, embed.stride, embed.width, picked, embed_rows, none)

        if shared:
            _read_inputs(memory.rows, lanes, embed.width, place, options, memory)
        else:
            _read_inputs(memory.embed_rows, lanes, embed.width, place, options, memory)
        active = _number_states(origins, memory.slot)
        _forward(embed.width, layers, dense, hidden, lanes, active, origins, place, options, memory)

        grad_rows = memory.grad_rows[: n_rows * table.width].reshape(n_rows, table.width)
        grads = memory.embed_grad[: n_embed * embed.width].reshape(n_embed, embed.width)
        total += _scores(rows[:n_columns], grad_rows[:n_columns], lanes, layers, embed.width, options, memory) * lanes
        _backward(embed.width, layers, dense, lanes, active, options, memory)

        adagrad_dense(dense.weight, dense.square, dense.velocity, dense.grad, options.rate, options.momentum)
        grad_rows[n_columns:] = 0
        grads[:] = 0
        if shared:
            _add_input_grads(memory.grad_rows, lanes, embed.width, options, memory)
        else:
            _add_input_grads(memory.embed_grad, lanes, embed.width, options, memory)
        grad_bias = memory.grad_bias[:n_rows]
        touched, rate, momentum = memory.columns[:n_rows], options.rate, options.momentum
        adagrad_rows(table.flat, table.stride, table.width, touched, n_columns, grad_rows, grad_bias, rate, momentum)
        adagrad_rows(embed.flat, embed.stride, embed.width, picked, 0, grads, none, rate, momentum)
        _forget(table.slots, touched)
        _forget(embed.slots, picked)
    return total


@kernel
def _columns(slots: Any, targets: Any, samples: Any, options: Any, memory: Any) -> int:
    """Lists the distinct items of targets and samples with their weights; returns their number."""
    count = 0
    for place in range(targets.size + samples.size):
        target = place < targets.size
        item = targets[place] if target else samples[place - targets.size]
        own = np.float32(1)
        if not options.bpr:
            own = options.target_weight[item] if target else options.sample_weight[item]
        at = slots[item]
        if at < 0:
            at = count
            slots[item] = at
            memory.columns[at] = item
            memory.weight[at] = own
            count += 1
        else:
            memory.weight[at] += own
        if target:
            memory.own[place] = own
            memory.positive[place] = at
    return count


@kernel
def _inputs(slots: Any, columns: Any, count: int, inputs: Any, places: Any) -> int:
    """Adds the inputs to the distinct items and notes their places; returns the number of items."""
    for lane in range(inputs.size):
        at = slots[inputs[lane]]
        if at < 0:
            at = count
            slots[inputs[lane]] = at
            columns[at] = inputs[lane]
            count += 1
        places[lane] = at
    return count


@kernel
def _forget(slots: Any, items: Any) -> None:
    for place in range(items.size):
        slots[items[place]] = -1


@kernel
def _read_inputs(source: Any, lanes: int, width: int, place: Any, options: Any, memory: Any) -> None:
    """Copies each lane's input row, dropped out, to where the first layer reads."""
    x, mask = memory.inputs[: lanes * width], memory.embed_mask[: lanes * width]
    for lane in range(lanes):
        at = memory.input_slots[lane] * width
        for j in range(width):
            x[lane * width + j] = source[at + j]
    if options.drop_embed > 0:
        dropout_mask(mask, options.drop_embed, options.seed, place[0], place[1], 0)
        for j in range(x.size):
            x[j] *= mask[j]


@kernel
def _number_states(origins: Any, slot: Any) -> int:
    """Numbers the lanes that have a state, -1 the fresh ones; returns how many have."""
    active = 0
    for lane in range(origins.size):
        slot[lane] = active if origins[lane] >= 0 else -1
        active += origins[lane] >= 0
    return active


@kernel
def _forward(
    in_width: int,
    layers: Any,
    dense: Any,
    hidden: Any,
    lanes: int,
    active: int,
    origins: Any,
    place: Any,
    options: Any,
    memory: Any,
) -> None:
    """Feeds the input rows through the layers; the outputs stand behind each other in `memory.inputs`."""
    slot = memory.slot[:lanes]
    weight_at, state_at, done, x_at = 0, 0, 0, 0
    for layer in range(layers.size):
        h = layers[layer]
        g = 3 * h
        w_ih = dense.weight[weight_at : weight_at + g * in_width].reshape(g, in_width)
        w_hh = dense.weight[weight_at + g * in_width : weight_at + g * (in_width + h)].reshape(g, h)
        biases = dense.weight[weight_at + g * (in_width + h) : weight_at + g * (in_width + h + 2)]
        state = hidden[state_at : state_at + options.batch_size * h].reshape(options.batch_size, h)
        before = memory.before[done : done + active * h].reshape(active, h)
        for lane in range(lanes):
            if slot[lane] >= 0:
                for j in range(h):
                    # A lane's place only ever falls, so what is overwritten here has been read.
                    state[lane, j] = state[origins[lane], j]
                    before[slot[lane], j] = state[lane, j]
        gates_in = memory.gates_in[: lanes * g].reshape(lanes, g)
        gates_state = memory.gates_state[: active * g].reshape(active, g)
        np.dot(memory.inputs[x_at : x_at + lanes * in_width].reshape(lanes, in_width), w_ih.T, gates_in)
        if active:
            np.dot(before, w_hh.T, gates_state)
        mask = memory.masks[done : done + (lanes * h if options.drop_hidden > 0 else 0)]
        if options.drop_hidden > 0:
            dropout_mask(mask, options.drop_hidden, options.seed, place[0], place[1], layer + 1)
        saved = memory.saved[4 * done : 4 * (done + lanes * h)].reshape(lanes, 4 * h)
        mask_MH = mask.reshape(lanes if mask.size else 0, h)
        gates_forward(gates_in, gates_state, biases[:g], biases[g:], slot, state[:lanes], saved, mask_MH)
        x_at += lanes * in_width
        out = memory.inputs[x_at : x_at + lanes * h].reshape(lanes, h)
        for lane in range(lanes):
            for j in range(h):
                out[lane, j] = state[lane, j]
        weight_at += g * (in_width + h + 2)
        state_at += options.batch_size * h
        done += lanes * h
        in_width = h


@kernel
def _scores(
    columns_UD: Any, grad_columns_UD: Any, lanes: int, layers: Any, in_width: int, options: Any, memory: Any
) -> Any:
    """The loss of a step, and its gradients with respect to the columns, their biases and the last layer's output."""
    n_columns, width = columns_UD.shape
    x_at = lanes * in_width
    for layer in range(layers.size - 1):
        x_at += lanes * layers[layer]
    last = memory.inputs[x_at : x_at + lanes * width].reshape(lanes, width)
    scores = memory.scores[: lanes * n_columns].reshape(lanes, n_columns)
    np.dot(last, columns_UD.T, scores)
    bias, weight, grad_bias = memory.bias[:n_columns], memory.weight[:n_columns], memory.grad_bias[:n_columns]
    positive, own = memory.positive[:lanes], memory.own[:lanes]
    line_a, line_b = memory.line_a, memory.line_b
    scale = np.float32(1.0 / options.batch_size)
    if options.bpr:
        elu, bpreg = options.elu, options.bpreg
        loss = bpr_max(scores, bias, weight, positive, elu, bpreg, scale, grad_bias, line_a, line_b)
    else:
        loss = cross_entropy(scores, bias, weight, positive, own, scale, grad_bias)
    np.dot(scores.T, last, grad_columns_UD)
    np.dot(scores, columns_UD, memory.grad[: lanes * width].reshape(lanes, width))
    return loss / options.batch_size


@kernel
def _backward(in_width: int, layers: Any, dense: Any, lanes: int, active: int, options: Any, memory: Any) -> None:
    """From `memory.grad`, of the last layer's output, to that of the input rows, and the gradients of the cells."""
    slot = memory.slot[:lanes]
    weight_at, done, x_at = dense.weight.size, 0, 0
    for layer in range(layers.size):
        done += lanes * layers[layer]
        x_at += lanes * (layers[layer - 1] if layer > 0 else in_width)
    for back in range(layers.size):
        layer = layers.size - 1 - back
        h, width = layers[layer], layers[layer - 1] if layer > 0 else in_width
        g = 3 * h
        weight_at -= g * (width + h + 2)
        done -= lanes * h
        x_at -= lanes * width
        split = weight_at + g * width
        w_ih, grad_ih = dense.weight[weight_at:split].reshape(g, width), dense.grad[weight_at:split].reshape(g, width)
        grad_hh = dense.grad[split : split + g * h].reshape(g, h)
        grad_biases = dense.grad[split + g * h : split + g * (h + 2)]
        before = memory.before[done : done + active * h].reshape(active, h)
        saved = memory.saved[4 * done : 4 * (done + lanes * h)].reshape(lanes, 4 * h)
        mask = memory.masks[done : done + (lanes * h if options.drop_hidden > 0 else 0)]
        mask_MH = mask.reshape(lanes if mask.size else 0, h)
        gates_in = memory.gates_in[: lanes * g].reshape(lanes, g)
        gates_state = memory.gates_state[: active * g].reshape(active, g)
        grad = memory.grad[: lanes * h].reshape(lanes, h)
        b_ih, b_hh = grad_biases[:g], grad_biases[g:]
        gates_backward(grad, before, slot, saved, mask_MH, gates_in, gates_state, b_ih, b_hh)
        np.dot(gates_in.T, memory.inputs[x_at : x_at + lanes * width].reshape(lanes, width), grad_ih)
        if active:
            np.dot(gates_state.T, before, grad_hh)
        else:
            grad_hh[:] = 0
        np.dot(gates_in, w_ih, memory.other[: lanes * width].reshape(lanes, width))
        for j in range(lanes * width):
            memory.grad[j] = memory.other[j]


@kernel
def _add_input_grads(sums: Any, lanes: int, width: int, options: Any, memory: Any) -> None:
    """Adds the gradient of each lane's input, through its dropout, to that of its row."""
    grad, mask = memory.grad[: lanes * width], memory.embed_mask[: lanes * width]
    if options.drop_embed > 0:
        for j in range(grad.size):
            grad[j] *= mask[j]
    for lane in range(lanes):
        at = memory.input_slots[lane] * width
        for j in range(width):
            sums[at + j] += grad[lane * width + j]
