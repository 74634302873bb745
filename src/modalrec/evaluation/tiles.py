"""A batch's scores of the whole catalogue, a tile of items at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.scan import padded
from modalrec.recommenders import Scorer

KEPT = 256 * 2**20
"""Bytes of tiles that are kept for a second pass; beyond that they are scored again."""

# B rows of a batch, T items of a tile.


class Tiles:
    """Scores by tile, the targets side by side; what the history holds is NaN where it is masked.

    Attributes:
        target_B: The targets' scores, from before the masking; NaN until their tiles were scored.
        wrong_B: Where masking hid a NaN of the scorer's own.
    """

    def __init__(
        self,
        scorer: Scorer,
        prepared: Any,
        targets_B: NDArray[np.int32],
        masked: tuple[NDArray[np.int64], NDArray[np.int64]],
        n_items: int,
        tile: int,
        keep: bool,
    ) -> None:
        """Scores nothing yet.

        Args:
            scorer: Where scores come from.
            prepared: What it prepared for the batch.
            targets_B: The target items.
            masked: Rows and items that are masked, sorted by item.
            n_items: Size of the catalogue.
            tile: Items at a time.
            keep: Whether there will be a second pass.
        """
        self._scorer, self._prepared, self._masked = scorer, prepared, masked
        self._n_items, self._tile, self._n_rows = n_items, min(tile, n_items), len(targets_B)
        self._order = np.argsort(targets_B, kind="stable")
        self._sorted = targets_B[self._order]
        self.target_B = np.full(len(targets_B), np.nan, np.float32)
        self.wrong_B = np.zeros(len(targets_B), bool)
        self._kept: dict[int, NDArray[np.float32]] = {}
        self._room = KEPT if keep else 0
        # Zeros, as lanes beyond the rows are read and must not be slow denormal or signalling numbers.
        self._buffer = np.zeros((self._tile, padded(len(targets_B))), np.float32)

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The first item of every tile and its scores, [T, lanes]; a tile is valid until the next one is taken."""
        for begin in range(0, self._n_items, self._tile):
            yield begin, self.at(begin)

    def score_targets(self) -> None:
        """Fills `target_B` from the tiles that hold a target."""
        for begin in np.unique(self._sorted // self._tile).tolist():
            self.at(begin * self._tile)

    def at(self, begin: int) -> NDArray[np.float32]:
        """The tile that begins with an item."""
        if begin in self._kept:
            return self._kept[begin]
        end = min(begin + self._tile, self._n_items)
        scores_TB = self._place(end - begin)
        # Column-major [B, T]: matrix products write it as fast, and one target's neighbours are other targets.
        self._scorer.score_into(self._prepared, begin, end, scores_TB[:, : self._n_rows].T)
        here = slice(*np.searchsorted(self._sorted, [begin, end]))
        rows = self._order[here]
        self.target_B[rows] = scores_TB[self._sorted[here] - begin, rows]
        rows, items = self._masked
        here = slice(*np.searchsorted(items, [begin, end]))
        places = items[here] - begin, rows[here]
        self.wrong_B[places[1][np.isnan(scores_TB[places])]] = True
        # NaN is neither greater than, nor equal to, nor better than anything.
        scores_TB[places] = np.nan
        if self._room >= scores_TB.nbytes:
            self._room -= scores_TB.nbytes
            self._kept[begin] = scores_TB
        return scores_TB

    def _place(self, n_items: int) -> NDArray[np.float32]:
        wanted = self._buffer[:n_items]
        return np.zeros_like(wanted) if self._room >= wanted.nbytes else wanted
