"""What stood near what in histories: the counts behind item-KNN."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from modalrec.data.sequences import Sequences

WINDOW = 5
BACKWARD = 0.3
HISTORY = 10
DECAY = 0.8

# N items, B histories.


def neighbours(train: Sequences) -> sparse.csr_array:
    """How often items stood near each other, [N, N], from train events alone.

    Two items of a user's events at most five places apart count 1 / gap for the later one (column) given the earlier
    (row), and 0.3 / gap for the earlier one given the later.
    """
    users = np.repeat(np.arange(train.n_users), np.diff(train.offsets))
    shape = (train.n_items, train.n_items)
    # One gap at a time: the matrix merges what repeats, so memory follows the distinct pairs.
    found_NN = sparse.csr_array(shape, dtype=np.float64)
    for gap in range(1, WINDOW + 1):
        same = users[gap:] == users[:-gap]
        earlier, later = train.items[:-gap][same], train.items[gap:][same]
        weights = np.full(len(earlier), 1.0 / gap)
        forward = sparse.coo_array((weights, (earlier, later)), shape).tocsr()
        found_NN = found_NN + forward + BACKWARD * forward.T.tocsr()
    return found_NN


def following(neighbours_NN: sparse.csr_array, histories: Sequence[NDArray[np.int32]]) -> sparse.csr_array:
    """What may follow each history, [B, N]: the sum over its last ten items of 0.8^age times the item's row."""
    last = [history[-HISTORY:] for history in histories]
    items = np.concatenate(last)
    rows = np.repeat(np.arange(len(last)), [len(history) for history in last])
    ages = np.concatenate([np.arange(len(history))[::-1] for history in last])
    weights_BN = sparse.coo_array((DECAY**ages, (rows, items)), (len(last), neighbours_NN.shape[0])).tocsr()
    return weights_BN @ neighbours_NN
