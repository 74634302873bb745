"""The item-KNN baseline: what followed the last items of a history in other users' train events.

An old and strong baseline: a model that does not beat it has not earned its training.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from modalrec.data.sequences import Sequences
from modalrec.recommenders import Scorer

WINDOW = 5
BACKWARD = 0.3
HISTORY = 10
DECAY = 0.8
POPULARITY = 1e-6

# N items, B histories, H their last items.


class ItemKNN(Scorer):
    """Scores by decayed co-occurrence, from train events alone.

    Two items of a user's train events at most five places apart count 1 / gap for the later one given the earlier, and
    0.3 / gap for the earlier one given the later. A history's score is the sum over its last ten items of 0.8^age times
    the item's row, plus popularity times 1e-6 to break ties.
    """

    def __init__(self, sequences: Sequences) -> None:
        train = sequences.train()
        users = np.repeat(np.arange(train.n_users), np.diff(train.offsets))
        shape = (sequences.n_items, sequences.n_items)
        # One gap at a time: the matrix merges what repeats, so memory follows the distinct pairs.
        self.rows_NN = sparse.csr_array(shape, dtype=np.float64)
        for gap in range(1, WINDOW + 1):
            same = users[gap:] == users[:-gap]
            earlier, later = train.items[:-gap][same], train.items[gap:][same]
            weights = np.full(len(earlier), 1.0 / gap)
            forward = sparse.coo_array((weights, (earlier, later)), shape).tocsr()
            self.rows_NN = self.rows_NN + forward + BACKWARD * forward.T.tocsr()
        self.popularity = POPULARITY * sequences.train_counts()

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> sparse.csc_array:
        """The summed rows of each history, [B, N], sparse."""
        last = [history[-HISTORY:] for history in histories]
        items = np.concatenate(last)
        rows = np.repeat(np.arange(len(last)), [len(history) for history in last])
        ages = np.concatenate([np.arange(len(history))[::-1] for history in last])
        weights_BN = sparse.coo_array((DECAY**ages, (rows, items)), (len(last), self.rows_NN.shape[0])).tocsr()
        return (weights_BN @ self.rows_NN).tocsc()

    def score(self, prepared: sparse.csc_array, begin: int, end: int) -> NDArray[np.float32]:
        """[B, end - begin] scores."""
        return (prepared[:, begin:end].toarray() + self.popularity[begin:end]).astype(np.float32)
