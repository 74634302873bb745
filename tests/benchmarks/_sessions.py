"""Generated sessions: popular items, and items that often follow each other."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def drawn_sessions(
    rng: np.random.Generator, n_items: int, draw_lengths: Callable[[], NDArray[np.int64]]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Items of all sessions and their offsets.

    Popularity falls as rank to the power of -0.9; six events of ten follow from the one before, which has three items
    that may.

    Args:
        rng: Of all draws.
        n_items: Of the catalogue; not all occur.
        draw_lengths: Draws the events of every session.
    """
    popularity = np.cumsum((np.arange(n_items) + 1.0) ** -0.9)
    popularity /= popularity[-1]

    def drawn(*size: int) -> NDArray[np.int32]:
        return np.searchsorted(popularity, rng.random(size)).astype(np.int32)

    following = drawn(n_items, 3)
    lengths = draw_lengths()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    items = drawn(int(offsets[-1]))
    follows, which = rng.random(len(items)) < 0.6, rng.integers(0, 3, len(items))
    for place in range(1, int(lengths.max())):
        here = offsets[:-1][lengths > place] + place
        here = here[follows[here]]
        items[here] = following[items[here - 1], which[here]]
    return items, offsets
