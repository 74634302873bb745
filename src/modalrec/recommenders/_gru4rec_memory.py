"""What the compiled step of GRU4Rec works on: tables, dense weights, a chunk's data, settings and reused memory."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# M lanes, U distinct columns, N items, H width of a layer, I width of its input, L layers, k steps, n samples.

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]


class Table(NamedTuple):
    """Rows of items with their optimizer state beside them: one place in memory to fetch, one to write.

    Attributes:
        flat: N rows of `stride` floats: weights, perhaps a bias, as many accumulators, perhaps as many velocities.
        stride: Floats of a row.
        width: Weights of a row.
        slots: [N] scratch, -1 throughout between steps.
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
