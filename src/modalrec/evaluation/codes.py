"""How well semantic IDs use their codebooks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# N items, L levels, V codes of a level.


@dataclass(frozen=True)
class LevelUsage:
    """The codes of one level.

    Attributes:
        counts: [V] items per code.
    """

    counts: NDArray[np.int64]

    @property
    def used(self) -> int:
        """Codes that at least one item has."""
        return int((self.counts > 0).sum())

    @property
    def entropy(self) -> float:
        """Shannon entropy of the code frequencies, in bits; log2 V if all are equally frequent."""
        shares = self.counts[self.counts > 0] / max(self.counts.sum(), 1)
        return float(-(shares * np.log2(shares)).sum()) + 0.0

    @property
    def perplexity(self) -> float:
        """2^entropy: the number of equally frequent codes that would be as informative."""
        return float(2**self.entropy)

    @property
    def normalised_entropy(self) -> float:
        """Entropy over that of equally frequent codes, 0 to 1; 1 for a codebook of one code."""
        return self.entropy / math.log2(len(self.counts)) if len(self.counts) > 1 else 1.0


def has_collapsed(usage: LevelUsage) -> bool:
    """Whether a codebook says nearly nothing: less than a tenth of what equally frequent codes of the items would."""
    possible = min(len(usage.counts), int(usage.counts.sum()))
    return possible > 1 and usage.entropy < 0.1 * math.log2(possible)


def level_usage(codes_NL: NDArray[np.int32], sizes: Sequence[int]) -> list[LevelUsage]:
    """The usage of each level.

    Args:
        codes_NL: Codes of all items.
        sizes: [L] codes per level.
    """
    return [LevelUsage(np.bincount(codes_NL[:, level], minlength=size)) for level, size in enumerate(sizes)]


def pooled_usage(codes_NL: NDArray[np.int32], size: int) -> LevelUsage:
    """The usage of a codebook that all levels share: how often any level takes each of its `size` codes."""
    return LevelUsage(np.bincount(codes_NL.reshape(-1), minlength=size))


def colliding(codes_NL: NDArray[np.int32]) -> int:
    """Items minus distinct tuples of codes: zero if every item has its own."""
    return len(codes_NL) - len(np.unique(codes_NL, axis=0))
