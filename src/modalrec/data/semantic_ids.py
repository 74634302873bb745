"""Semantic IDs: codes made unique by one more number, an item's position among those that share all codes."""

import numpy as np
from numpy.typing import NDArray

# N items, L levels of codes.


def with_positions(codes_NL: NDArray[np.int32], distances_N: NDArray[np.float32]) -> NDArray[np.int32]:
    """Appends each item's position inside the group of items with equal codes; the result has no two equal rows.

    The item that its codes describe best comes first: position 0, which most items have, then means "the typical one".

    Args:
        codes_NL: Codes of all items.
        distances_N: From each item to what its codes stand for; equal distances keep the items' order.

    Returns:
        [N, L + 1] codes, the position last.
    """
    order = np.lexsort((distances_N, *codes_NL.T[::-1]))  # the last key leads; stable, so ties keep the items' order
    sorted_NL = codes_NL[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (sorted_NL[1:] != sorted_NL[:-1]).any(axis=1)
    places = np.arange(len(order))
    first_of_group = np.maximum.accumulate(np.where(starts, places, 0))
    positions_N = np.empty(len(order), np.int32)
    positions_N[order] = places - first_of_group
    return np.concatenate([codes_NL.astype(np.int32), positions_N[:, None]], axis=1)
