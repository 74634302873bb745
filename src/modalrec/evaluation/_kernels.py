"""The loop over a tile of scores, compiled where numba is installed.

One read of a score tells whether it counts as greater, whether it is near a target's score and whether it enters a
list; the last two are rare, so that the common way is a few vector instructions for sixteen scores. `scan.py` holds the
same in numpy.
"""

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import kernel

# T items of a tile, B targets in blocks of LANES, C near scores kept, k length of the lists.

LANES = 64
"""Targets per block: loops of a fixed length over float32 become vector code."""
ONE, ZERO = np.float32(1), np.float32(0)


@kernel
def scan_tile(
    scores_TB: NDArray[np.float32],
    allowed_T: NDArray[np.bool_],
    begin: int,
    low_B: NDArray[np.float32],
    high_B: NDArray[np.float32],
    bar_B: NDArray[np.float32],
    greater_B: NDArray[np.float32],
    within_B: NDArray[np.int64],
    missing_B: NDArray[np.int64],
    near_BC: NDArray[np.float32],
    best_Bk: NDArray[np.float32],
    items_Bk: NDArray[np.int64],
) -> None:
    """Adds a tile, in place.

    Args:
        scores_TB: Scores of the items from `begin` on, the targets side by side; NaN is no candidate.
        allowed_T: Items that are candidates.
        begin: The first item.
        low_B: Scores from here
        high_B: to here are near the target's; those above are greater.
        bar_B: Scores above it enter the list: its last score.
        greater_B: Counts the scores above high_B, in float32 to stay in one vector width: exact up to 2^24 a tile.
        within_B: Counts the near ones.
        missing_B: Counts NaN among the allowed items.
        near_BC: The first C near scores.
        best_Bk: Scores of the lists, best first.
        items_Bk: Their items.
    """
    n_lanes = scores_TB.shape[1]
    capacity, k = near_BC.shape[1], best_Bk.shape[1]
    found = np.empty(LANES + 1, np.int64)
    for t in range(len(scores_TB)):
        if not allowed_T[t]:
            continue
        for first in range(0, n_lanes, LANES):
            row = scores_TB[t, first : first + LANES]
            low, high, bar = low_B[first : first + LANES], high_B[first : first + LANES], bar_B[first : first + LANES]
            greater = greater_B[first : first + LANES]
            rare = ZERO
            for lane in range(LANES):
                score = row[lane]
                above = ONE if score > high[lane] else ZERO
                greater[lane] += above
                # NaN is not below, and so is rare without a comparison of its own.
                rare += (ZERO if score < low[lane] else ONE) - above
                rare += ONE if score > bar[lane] else ZERO
            if rare == ZERO:
                continue
            # Their places first, without a branch that could be guessed wrong.
            n_found = 0
            for lane in range(LANES):
                score = row[lane]
                found[n_found] = lane
                near = (score >= low[lane]) & (score <= high[lane])
                n_found += near | (score > bar[lane]) | (score != score)
            for lane in found[:n_found]:
                b = first + lane
                score = scores_TB[t, b]
                if score > bar_B[b]:
                    place = k - 1
                    while place > 0 and best_Bk[b, place - 1] < score:
                        best_Bk[b, place] = best_Bk[b, place - 1]
                        items_Bk[b, place] = items_Bk[b, place - 1]
                        place -= 1
                    best_Bk[b, place] = score
                    items_Bk[b, place] = begin + t
                    bar_B[b] = best_Bk[b, k - 1]
                if low_B[b] <= score <= high_B[b]:
                    if within_B[b] < capacity:
                        near_BC[b, within_B[b]] = score
                    within_B[b] += 1
                if score != score:
                    missing_B[b] += 1
