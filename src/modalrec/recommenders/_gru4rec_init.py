"""First weights of GRU4Rec."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from modalrec.recommenders.gru4rec import GRU4Rec

ROWS = 65_536
"""Rows of a table that are drawn at a time."""


def compatible_weights(model: "GRU4Rec") -> None:
    """Draws what the authors' compatibility mode draws: uniform, from numpy's Mersenne twister, seed 42, in its order.

    Where their code stops with an error (layers of different widths), a gate's block keeps the bound and the order.
    """
    rng = np.random.RandomState(42)
    config = model.config
    if config.embedding == "separate":
        _fill(rng, model.input_vectors)
    if config.embedding == "none":
        first = model.first
        for gate in first.rows.chunk(3, dim=1):
            _fill(rng, gate)
        for gate in first.reset_update.chunk(2, dim=1):
            _fill(rng, gate)
        _fill(rng, first.candidate)
    for cell in model.grus:
        for weight in (cell.weight_ih, cell.weight_hh):
            for gate in weight.chunk(3):
                _fill(rng, gate)
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    _fill(rng, model.item_vectors)


def uniform_(model: "GRU4Rec") -> None:
    """Uniform within sqrt(6 / (rows + columns)) of each gate's block, from torch's generator."""
    blocks: list[Tensor] = [model.item_vectors]
    if model.config.embedding == "separate":
        blocks.append(model.input_vectors)
    if model.config.embedding == "none":
        first = model.first
        blocks += [*first.rows.chunk(3, dim=1), *first.reset_update.chunk(2, dim=1), first.candidate]
    for cell in model.grus:
        blocks += [*cell.weight_ih.chunk(3), *cell.weight_hh.chunk(3)]
        cell.bias_ih.zero_()
        cell.bias_hh.zero_()
    for block in blocks:
        bound = math.sqrt(6 / sum(block.shape))
        block.uniform_(-bound, bound)


def content_directions(content_NV: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The content's principal components, each item's row scaled to the length that standard normal noise would have.

    Items without content (zero rows) stay zero and move nothing.

    Args:
        content_NV: One vector an item.
        width: Components; beyond the content's own dimension they are zero.

    Returns:
        [N, width] rows of length sqrt(width), or zero.
    """
    given_N = np.abs(content_NV).sum(1) > 0
    centred_NV = np.where(given_N[:, None], content_NV - content_NV[given_N].mean(0), 0).astype(np.float32)
    _, axes_VV = np.linalg.eigh(centred_NV.T @ centred_NV)
    main_NK = centred_NV @ axes_VV[:, ::-1][:, :width]
    lengths_N1 = np.linalg.norm(main_NK, axis=1, keepdims=True)
    scaled_NK = main_NK / np.maximum(lengths_N1, 1e-12) * math.sqrt(width)
    return np.pad(scaled_NK, ((0, 0), (0, width - scaled_NK.shape[1]))).astype(np.float32)


def _fill(rng: np.random.RandomState, block: Tensor) -> None:
    bound = np.float32(math.sqrt(6 / sum(block.shape)))
    for begin in range(0, len(block), ROWS):
        part = block[begin : begin + ROWS]
        drawn = rng.random_sample(tuple(part.shape)).astype(np.float32) * np.float32(2) * bound - bound
        part.copy_(torch.from_numpy(drawn))
