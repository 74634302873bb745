"""The popularity baseline: the items with most train events, the same for everyone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences
from modalrec.recommenders import Scorer


class Popularity(Scorer):
    """Scores an item by its number of train events; validation and test events are not counted."""

    def __init__(self, sequences: Sequences) -> None:
        self.counts = sequences.train_counts().astype(np.float32)

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> int:
        """Only their number matters."""
        return len(histories)

    def score(self, prepared: int, begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] counts."""
        return np.tile(self.counts[begin:end], (prepared, 1))

    def score_into(self, prepared: int, begin: int, end: int, out: NDArray[np.float32]) -> None:
        """Writes the counts without a copy of them."""
        out[...] = self.counts[begin:end]
