"""The training step of GRU4Rec as one compiled function, which runs many steps without returning to Python.

Three things make it fast, and none changes the mathematics: the step is written with its gradients instead of being
recorded and replayed; columns of the scores that repeat (an item drawn twice, two lanes with one target) are computed
once and weighted by their number; a fresh lane's state is zero and multiplied with nothing.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class Table(NamedTuple):
    """Rows of items with their optimizer state beside them: one place in memory to fetch, one to write.

    Attributes:
        flat: N rows of `stride` floats: weights, perhaps a bias, as many accumulators, perhaps as many velocities.
        stride: Floats of a row.
        width: Weights of a row.
        slots: [N] scratch, -1 throughout between chunk.
    """

    flat: Floats
    stride: int
    width: int
    slots: Ints


class Dense(NamedTuple):
    """Other weights, flat: per layer W_ih [3H, I], W_hh [3H, H], b_ih [3H], b_hh [3H]; gates in the order r, z, n."""

    weight: Floats
    square: Floats
    velocity: Floats
    grad: Floats


class Chunk(NamedTuple):
    """The data of consecutive steps, flat.

    Attributes:
        lanes: [k] lanes of each step.
        inputs: Item of every lane of every step.
        targets: The item that follows.
        origins: The lane of the step before whose state a lane goes on with; -1 for a fresh one.
        samples: [k, n] sampled items.
        epoch: Number of the epoch, for dropout.
        first: Number of the first step in its epoch.
    """

    lanes: Ints
    inputs: Ints
    targets: Ints
    origins: Ints
    samples: Ints
    epoch: int
    first: int


class Options(NamedTuple):
    """Settings of the step, see `GRU4RecConfig`; item weights are exp(-logq * c), all ones without correction."""

    bpr: bool
    elu: np.float32
    bpreg: np.float32
    rate: np.float32
    momentum: np.float32
    batch_size: int
    drop_embed: float
    drop_hidden: float
    seed: int
    target_weight: Floats
    sample_weight: Floats


class Scratch(NamedTuple):
    """Memory that every step reuses; see `scratch`."""

    columns: Ints
    positive: Ints
    input_slots: Ints
    slot: Ints
    weight: Floats
    own: Floats
    bias: Floats
    grad_bias: Floats
    rows: Floats
    grad_rows: Floats
    scores: Floats
    line_a: Floats
    line_b: Floats
    inputs: Floats
    grad: Floats
    other: Floats
    before: Floats
    gates_in: Floats
    gates_state: Floats
    saved: Floats
    masks: Floats
    embed_mask: Floats
    embed_columns: Ints
    embed_rows: Floats
    embed_grad: Floats


def scratch(batch_size: int, n_sample: int, width: int, input_width: int, layers: tuple[int, ...]) -> Scratch:
    """Allocates the memory of a step."""

    def floats(size: int) -> Floats:
        return np.zeros(size, np.float32)

    def ints(size: int) -> Ints:
        return np.zeros(size, np.int32)

    columns, rows = batch_size + n_sample, 2 * batch_size + n_sample
    widest, total = max(*layers, input_width), sum(layers)
    return Scratch(
        ints(rows),
        ints(batch_size),
        ints(batch_size),
        ints(batch_size),
        floats(columns),
        floats(batch_size),
        floats(columns),
        floats(rows),
        floats(rows * width),
        floats(rows * width),
        floats(batch_size * columns),
        floats(columns),
        floats(columns),
        floats(batch_size * (input_width + total)),
        floats(batch_size * widest),
        floats(batch_size * widest),
        floats(batch_size * total),
        floats(batch_size * 3 * widest),
        floats(batch_size * 3 * widest),
        floats(batch_size * 4 * total),
        floats(batch_size * total),
        floats(batch_size * input_width),
        ints(batch_size),
        floats(batch_size * input_width),
        floats(batch_size * input_width),
    )


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
    begin = np.intp(0)
    none = np.zeros(0, np.float32)
    scale = np.float32(1.0 / options.batch_size)
    for step in range(chunk.lanes.size):
        lanes = np.intp(chunk.lanes[step])
        inputs = chunk.inputs[begin : begin + lanes]
        targets = chunk.targets[begin : begin + lanes]
        origins = chunk.origins[begin : begin + lanes]
        begin += lanes
        number = chunk.first + step

        # The distinct columns, their weights, and where each lane finds its target and its input.
        n_columns = _columns(table.slots, targets, chunk.samples[step], options, memory)
        n_rows = n_columns
        source = memory.rows
        if shared:
            for lane in range(lanes):
                n_rows = _slot(table.slots, memory.columns, n_rows, inputs[lane], memory.input_slots, lane)
        rows = memory.rows[: n_rows * table.width].reshape(n_rows, table.width)
        gather(table.flat, table.stride, table.width, memory.columns[:n_columns], rows, memory.bias[:n_columns])
        gather(table.flat, table.stride, table.width, memory.columns[n_columns:n_rows], rows[n_columns:], none)
        n_embed = 0
        if not shared:
            for lane in range(lanes):
                n_embed = _slot(embed.slots, memory.embed_columns, n_embed, inputs[lane], memory.input_slots, lane)
            source = memory.embed_rows
            picked = source[: n_embed * embed.width].reshape(n_embed, embed.width)
            gather(embed.flat, embed.stride, embed.width, memory.embed_columns[:n_embed], picked, none)

        # Forward.
        in_width = np.intp(embed.width)
        x = memory.inputs[: lanes * in_width]
        if options.drop_embed > 0:
            dropout_mask(memory.embed_mask[: x.size], options.drop_embed, options.seed, chunk.epoch, number, 0)
        for lane in range(lanes):
            at = memory.input_slots[lane] * in_width
            for j in range(in_width):
                value = source[at + j]
                x[lane * in_width + j] = (
                    value * memory.embed_mask[lane * in_width + j] if options.drop_embed > 0 else value
                )
        active = np.intp(0)
        for lane in range(lanes):
            memory.slot[lane] = -1
            if origins[lane] >= 0:
                memory.slot[lane] = active
                active += 1
        slot = memory.slot[:lanes]
        place, state_at, before_at, saved_at, x_at = np.intp(0), np.intp(0), np.intp(0), np.intp(0), np.intp(0)
        for layer in range(layers.size):
            h = np.intp(layers[layer])
            g = 3 * h
            w_ih = dense.weight[place : place + g * in_width].reshape(g, in_width)
            w_hh = dense.weight[place + g * in_width : place + g * (in_width + h)].reshape(g, h)
            biases = dense.weight[place + g * (in_width + h) : place + g * (in_width + h + 2)]
            place += g * (in_width + h + 2)
            state = hidden[state_at : state_at + options.batch_size * h].reshape(options.batch_size, h)
            state_at += options.batch_size * h
            for lane in range(lanes):
                if origins[lane] >= 0 and origins[lane] != lane:
                    for j in range(h):
                        state[lane, j] = state[origins[lane], j]
            before = memory.before[before_at : before_at + active * h].reshape(active, h)
            for lane in range(lanes):
                if slot[lane] >= 0:
                    for j in range(h):
                        before[slot[lane], j] = state[lane, j]
            gates_in = memory.gates_in[: lanes * g].reshape(lanes, g)
            gates_state = memory.gates_state[: active * g].reshape(active, g)
            np.dot(memory.inputs[x_at : x_at + lanes * in_width].reshape(lanes, in_width), w_ih.T, gates_in)
            if active:
                np.dot(before, w_hh.T, gates_state)
            mask = memory.masks[before_at : before_at + (lanes * h if options.drop_hidden > 0 else 0)]
            if options.drop_hidden > 0:
                dropout_mask(mask, options.drop_hidden, options.seed, chunk.epoch, number, layer + 1)
            saved = memory.saved[saved_at : saved_at + lanes * 4 * h].reshape(lanes, 4 * h)
            gates_forward(
                gates_in,
                gates_state,
                biases[:g],
                biases[g:],
                slot,
                state[:lanes],
                saved,
                mask.reshape(lanes if mask.size else 0, h),
            )
            x_at += lanes * in_width
            for lane in range(lanes):
                for j in range(h):
                    memory.inputs[x_at + lane * h + j] = state[lane, j]
            before_at += lanes * h
            saved_at += lanes * 4 * h
            in_width = h
        last = memory.inputs[x_at : x_at + lanes * table.width].reshape(lanes, table.width)

        # Scores, loss, and their gradient.
        columns = rows[:n_columns]
        scores = memory.scores[: lanes * n_columns].reshape(lanes, n_columns)
        np.dot(last, columns.T, scores)
        bias, weight, grad_bias = memory.bias[:n_columns], memory.weight[:n_columns], memory.grad_bias[:n_columns]
        positive = memory.positive[:lanes]
        if options.bpr:
            loss = bpr_max(
                scores,
                bias,
                weight,
                positive,
                options.elu,
                options.bpreg,
                scale,
                grad_bias,
                memory.line_a,
                memory.line_b,
            )
        else:
            loss = cross_entropy(scores, bias, weight, positive, memory.own[:lanes], scale, grad_bias)
        total += loss / options.batch_size * lanes
        grad_rows = memory.grad_rows[: n_rows * table.width].reshape(n_rows, table.width)
        np.dot(scores.T, last, grad_rows[:n_columns])
        grad = memory.grad[: lanes * table.width].reshape(lanes, table.width)
        np.dot(scores, columns, grad)

        # Back through the layers.
        for back in range(layers.size):
            layer = layers.size - 1 - back
            h = np.intp(layers[layer])
            g = 3 * h
            in_width = np.intp(layers[layer - 1]) if layer > 0 else np.intp(embed.width)
            place -= g * (in_width + h + 2)
            before_at -= lanes * h
            saved_at -= lanes * 4 * h
            x_at -= lanes * in_width
            split = place + g * in_width
            w_ih = dense.weight[place:split].reshape(g, in_width)
            grad_ih = dense.grad[place:split].reshape(g, in_width)
            grad_hh = dense.grad[split : split + g * h].reshape(g, h)
            grad_biases = dense.grad[split + g * h : split + g * (h + 2)]
            before = memory.before[before_at : before_at + active * h].reshape(active, h)
            saved = memory.saved[saved_at : saved_at + lanes * 4 * h].reshape(lanes, 4 * h)
            mask = memory.masks[before_at : before_at + (lanes * h if options.drop_hidden > 0 else 0)]
            gates_in = memory.gates_in[: lanes * g].reshape(lanes, g)
            gates_state = memory.gates_state[: active * g].reshape(active, g)
            gates_backward(
                memory.grad[: lanes * h].reshape(lanes, h),
                before,
                slot,
                saved,
                mask.reshape(lanes if mask.size else 0, h),
                gates_in,
                gates_state,
                grad_biases[:g],
                grad_biases[g:],
            )
            np.dot(gates_in.T, memory.inputs[x_at : x_at + lanes * in_width].reshape(lanes, in_width), grad_ih)
            if active:
                np.dot(gates_state.T, before, grad_hh)
            else:
                grad_hh[:] = 0
            np.dot(gates_in, w_ih, memory.other[: lanes * in_width].reshape(lanes, in_width))
            for j in range(lanes * in_width):
                memory.grad[j] = memory.other[j]

        # Updates.
        adagrad_dense(dense.weight, dense.square, dense.velocity, dense.grad, options.rate, options.momentum)
        sums = memory.grad_rows if shared else memory.embed_grad
        in_width = np.intp(embed.width)
        for j in range(n_columns * in_width if shared else 0, (n_rows if shared else n_embed) * in_width):
            sums[j] = 0
        for lane in range(lanes):
            at = memory.input_slots[lane] * in_width
            for j in range(in_width):
                value = memory.grad[lane * in_width + j]
                sums[at + j] += value * memory.embed_mask[lane * in_width + j] if options.drop_embed > 0 else value
        touched = memory.columns[:n_rows]
        adagrad_rows(
            table.flat,
            table.stride,
            table.width,
            touched,
            n_columns,
            grad_rows,
            memory.grad_bias[:n_rows],
            options.rate,
            options.momentum,
        )
        for u in range(n_rows):
            table.slots[touched[u]] = -1
        if not shared:
            picked = memory.embed_columns[:n_embed]
            grads = memory.embed_grad[: n_embed * in_width].reshape(n_embed, in_width)
            adagrad_rows(embed.flat, embed.stride, embed.width, picked, 0, grads, none, options.rate, options.momentum)
            for u in range(n_embed):
                embed.slots[picked[u]] = -1
    return total


@kernel
def _slot(slots: Any, columns: Any, count: int, item: int, places: Any, lane: int) -> int:
    """Finds or makes the place of an item among the distinct ones; returns their number."""
    at = slots[item]
    if at < 0:
        at = count
        slots[item] = at
        columns[at] = item
        count += 1
    places[lane] = at
    return count


@kernel
def _columns(slots: Any, targets: Any, samples: Any, options: Any, memory: Any) -> int:
    """Lists the distinct items of targets and samples with their weights; returns their number."""
    count = 0
    for lane in range(targets.size):
        item = targets[lane]
        seen = count
        count = _slot(slots, memory.columns, count, item, memory.positive, lane)
        own = np.float32(1) if options.bpr else options.target_weight[item]
        memory.own[lane] = own
        at = memory.positive[lane]
        memory.weight[at] = own if count > seen else memory.weight[at] + own
    for place in range(samples.size):
        item = samples[place]
        own = np.float32(1) if options.bpr else options.sample_weight[item]
        at = slots[item]
        if at < 0:
            slots[item] = count
            memory.columns[count] = item
            memory.weight[count] = own
            count += 1
        else:
            memory.weight[at] += own
    return count
