"""The item-KNN baseline: what followed the last items of a history in other users' train events.

An old and strong baseline: a model that does not beat it has not earned its training.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from modalrec.data.sequences import Sequences
from modalrec.recommenders import Scorer
from modalrec.training.neighbours import following, neighbours

POPULARITY = 1e-6

# N items, B histories.


class ItemKNN(Scorer):
    """Scores by decayed co-occurrence (`training.neighbours`), plus popularity times 1e-6 to break ties."""

    def __init__(self, sequences: Sequences) -> None:
        self.rows_NN = neighbours(sequences.train())
        self.popularity = POPULARITY * sequences.train_counts()

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> sparse.csc_array:
        """The summed rows of each history, [B, N], sparse."""
        return following(self.rows_NN, histories).tocsc()

    def score(self, prepared: sparse.csc_array, begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] scores."""
        return (prepared[:, begin:end].toarray() + self.popularity[begin:end]).astype(np.float32)
