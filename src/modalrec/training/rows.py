"""Batches of labelled rows: histories packed one after the other, every distinct item once.

A history of 3 takes 3 places, not the longest history's. An item that many histories of a batch hold is listed once,
so that what a model computes of an item is computed once.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.data.columns import shuffled
from modalrec.data.rows import Rows, Task, pieces
from modalrec.training.batches import Batches, cut_into

# B rows, P places of their histories, U distinct items (with what they had at the time of their events).

Batch = dict[str, Tensor]


class RowBatches(Batches):
    """Rows in random order.

    Args:
        rows: All rows.
        places: [E] the rows to learn from.
        batch_size: Rows of a batch.
        history: Entries of a history, the latest ones.
        task: What is learnt.
        seed: Of the order.
    """

    def __init__(
        self, rows: Rows, places: NDArray[np.int64], batch_size: int, history: int, task: Task, seed: int
    ) -> None:
        self.rows, self.places, self.batch_size = rows, places, batch_size
        self.history, self.task, self.seed = history, task, seed

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """See `Batches.plan`."""
        order = shuffled(len(self.places), np.random.default_rng([self.seed, epoch]))
        return cut_into(order, self.batch_size)

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Batch:
        """See `Batches.build`, and `collate`."""
        return collate(self.rows, self.places[indices], self.history, self.task)


def collate(rows: Rows, places: NDArray[np.int64], history: int, task: Task) -> Batch:
    """Rows as tensors.

    Args:
        rows: All rows.
        places: [B] the rows of the batch.
        history: Entries of a history, the latest ones.
        task: What `label` shall be.

    Returns:
        `label` [B] float: 1, 0 and -1 where hidden, or the rating; `user` [B]; `item` [U] the distinct items, of
        targets and histories; `target` [B] and `past` [P] places in `item`; `row` [P] whose history each place of
        `past` belongs to; `offset` [B] where each history begins in `past`; [U] by key of each field of events, and
        [B] of each field of rows.
    """
    ends = rows.ends[places]
    begins = np.maximum(rows.begins[places], ends - history)
    lengths = ends - begins
    past = pieces(begins, ends)
    owned = rows.features.of("event")
    of_events = {
        one.key: np.concatenate([rows.values[one.key][places], rows.past_values[one.key][past]]) for one in owned
    }
    keys = np.concatenate([rows.items[places], rows.past[past]]).astype(np.int64)
    for one in owned:
        keys = keys * one.size + of_events[one.key]
    distinct, inverse = np.unique(keys, return_inverse=True)
    batch: dict[str, NDArray[np.generic]] = {}
    for one in reversed(owned):
        distinct, batch[one.key] = np.divmod(distinct, one.size)
    label = rows.labels if task == "click" or rows.ratings is None else rows.ratings
    batch |= {
        "label": np.asarray(label[places], np.float32),
        "user": rows.users[places],
        "item": distinct,
        "target": inverse[: len(places)],
        "past": inverse[len(places) :],
        "row": np.repeat(np.arange(len(places)), lengths),
        "offset": np.cumsum(lengths) - lengths,
    }
    batch |= {one.key: rows.values[one.key][places] for one in rows.features.of("row")}
    return {name: to_tensor(values) for name, values in batch.items()}


def to_tensor(values: NDArray[np.generic]) -> Tensor:
    """Floats as float32, all else as int64."""
    return torch.from_numpy(np.asarray(values, np.float32 if values.dtype.kind == "f" else np.int64))
