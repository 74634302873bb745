"""What is kept of a batch's scores while tile after tile passes by: counts around the targets, and the best items."""

import numpy as np
from numpy.typing import NDArray

from modalrec import compiled
from modalrec.evaluation._kernels import LANES, scan_tile
from modalrec.evaluation.top_lists import TopLists
from modalrec.recommenders import TopK

NEAR = 256
"""Near scores that are kept per target; a target with more of them is counted in a second pass."""

# B targets, padded to whole blocks of LANES, T items of a tile, C near scores that are kept.


class Scan:
    """Counts the scores above and near each target's, and keeps the k best, in one pass.

    A target's score is known only when its tile comes. A scorer's own guess, made apart, may differ from it in the last
    bits; so scores between `low` and `high` around the guess are kept and compared when all tiles have passed.

    Attributes:
        missing_B: NaN among the candidates so far.
    """

    def __init__(self, low_B: NDArray[np.float32], high_B: NDArray[np.float32], k: int) -> None:
        self.n_rows = len(low_B)
        lanes = padded(self.n_rows)
        self.low_B, self.high_B = np.full(lanes, np.inf, np.float32), np.full(lanes, np.inf, np.float32)
        self.low_B[: self.n_rows], self.high_B[: self.n_rows] = low_B, high_B
        self._lists = TopLists(lanes, k)
        # What is above the bar enters a list: anything at first, nothing in lanes without a target or without a list.
        self.bar_B = np.full(lanes, np.inf, np.float32)
        self.bar_B[: self.n_rows if k else 0] = -np.inf
        self.greater_B, self.within_B, self.missing_B = np.zeros((3, lanes), np.int64)
        self.near_BC = np.empty((lanes, NEAR), np.float32)

    def take(self, scores_TB: NDArray[np.float32], allowed_T: NDArray[np.bool_], begin: int) -> None:
        """Takes in a tile; tiles come in ascending order, and NaN is no candidate.

        Args:
            scores_TB: [T, lanes]; lanes beyond the rows are of no account.
            allowed_T: Items that are candidates.
            begin: The first item.
        """
        if not compiled.AVAILABLE:
            self._take_slowly(scores_TB[:, : self.n_rows], allowed_T, begin)
            return
        greater_B = np.zeros(len(self.low_B), np.float32)
        scan_tile(
            scores_TB,
            allowed_T,
            begin,
            self.low_B,
            self.high_B,
            self.bar_B,
            greater_B,
            self.within_B,
            self.missing_B,
            self.near_BC,
            self._lists.scores,
            self._lists.items,
        )
        self.greater_B += greater_B.astype(np.int64)

    def best(self) -> TopK:
        """The k best of each row, of equal scores the smaller item first."""
        return TopK(self._lists.items[: self.n_rows], self._lists.scores[: self.n_rows])

    def settle(self, target_B: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Counts of greater and of equal scores, the target not counted, and where they are sure.

        They are not where too many scores were near to be kept, or the target's was not near its guess.

        Args:
            target_B: The targets' scores, from their tiles.
        """
        rows = slice(self.n_rows)
        low_B, high_B, within_B = self.low_B[rows], self.high_B[rows], self.within_B[rows]
        kept_BC = np.arange(NEAR) < within_B[:, None]
        near_BC = self.near_BC[rows]
        above_B = (kept_BC & (near_BC > target_B[:, None])).sum(1)
        equal_B = (kept_BC & (near_BC == target_B[:, None])).sum(1)
        # Where low and high are one number, what is near is equal, however many there are.
        exact_B = (low_B == target_B) & (high_B == target_B)
        sure_B = exact_B | ((low_B <= target_B) & (target_B <= high_B) & (within_B <= NEAR))
        return self.greater_B[rows] + above_B, np.where(exact_B, within_B, equal_B) - 1, sure_B

    def _take_slowly(self, scores_TB: NDArray[np.float32], allowed_T: NDArray[np.bool_], begin: int) -> None:
        """What the kernel does, in numpy."""
        n = self.n_rows
        if not allowed_T.all():
            scores_TB = np.where(allowed_T[:, None], scores_TB, np.float32(np.nan))
        self.greater_B[:n] += (scores_TB > self.high_B[:n]).sum(0)
        self.missing_B[:n] += np.isnan(scores_TB[allowed_T]).sum(0)
        rows, items = np.nonzero(((scores_TB >= self.low_B[:n]) & (scores_TB <= self.high_B[:n])).T)
        found = np.bincount(rows, minlength=n)
        places = self.within_B[rows] + np.arange(len(rows)) - (np.cumsum(found) - found)[rows]
        kept = places < NEAR
        self.near_BC[rows[kept], places[kept]] = scores_TB[items[kept], rows[kept]]
        self.within_B[:n] += found
        if self._lists.items.shape[1]:
            self._lists.update(scores_TB.T, begin)


def padded(n_rows: int) -> int:
    """Rows rounded up to whole blocks of lanes."""
    return -(-n_rows // LANES) * LANES
