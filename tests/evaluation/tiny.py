"""A recommender whose scores are a table, and sequences from plain lists."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences
from modalrec.data.splits import leave_one_out
from modalrec.recommenders import Scorer


class Table(Scorer):
    """Scores from a table, by the last item of the history: [N, N]."""

    def __init__(self, table: NDArray[np.float32]) -> None:
        self.table = np.asarray(table, np.float32)

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        return np.array([history[-1] for history in histories], np.int64)

    def score(self, prepared: NDArray[np.int64], begin: int, end: int) -> NDArray[np.float32]:
        return self.table[prepared, begin:end]


def make_sequences(histories: list[list[int]], n_items: int) -> Sequences:
    """Users' items in order, split by leave-one-out."""
    lengths = np.array([len(history) for history in histories])
    users = np.repeat(np.arange(len(histories)), lengths).astype(np.int32)
    return Sequences(
        items=np.concatenate([np.array(history, np.int32) for history in histories]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        split=leave_one_out(users),
        n_items=n_items,
        split_name="leave_one_out",
    )
