"""The k best items of every row, kept up to date while tiles of scores pass by."""

import numpy as np
from numpy.typing import NDArray

SAMPLE = 16

# B rows, T items of a tile, k length of the lists.


class TopLists:
    """Top-k lists of B rows; of equal scores the smaller item index comes first, whatever the size of the tiles.

    Attributes:
        items: [B, k] item indices, best first, -1 where there are fewer than k.
        scores: [B, k], -inf where there are fewer than k.
    """

    def __init__(self, n_rows: int, k: int) -> None:
        self.items = np.full((n_rows, k), -1, np.int64)
        self.scores = np.full((n_rows, k), -np.inf, np.float32)

    def update(self, scores_BT: NDArray[np.float32], begin: int) -> None:
        """Takes in a tile whose first item is `begin`, of all rows or the first ones; tiles come in ascending order.

        NaN marks what is no candidate; items at -inf are never listed.
        """
        k = self.items.shape[1]
        worst_B = self.scores[: len(scores_BT), -1]
        better_BT = scores_BT > worst_B[:, None]
        if scores_BT.shape[1] > k and np.isneginf(worst_B).any():
            # Lists are still filling: what k items of the tile beat cannot enter. A part of the tile is enough to find
            # that bound; NaN sorts last, and a bound of NaN rules nothing out.
            kth_B = -np.partition(-scores_BT[:, : SAMPLE * k], k - 1, axis=1)[:, k - 1]
            better_BT &= ~(scores_BT < kth_B[:, None])
        flat = np.flatnonzero(better_BT)
        rows, columns = np.divmod(flat, scores_BT.shape[1])
        touched = np.unique(rows)
        if not len(touched):
            return
        rows = np.concatenate([np.repeat(touched, k), rows])
        items = np.concatenate([self.items[touched].ravel(), columns + begin])
        scores = np.concatenate([self.scores[touched].ravel(), scores_BT.ravel()[flat]])
        # An empty place has a score of -inf, below every candidate.
        order = np.lexsort((items, -scores, rows))
        starts = np.searchsorted(rows[order], touched)
        best = order[starts[:, None] + np.arange(k)]
        self.items[touched], self.scores[touched] = items[best], scores[best]
