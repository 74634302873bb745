"""Training examples of the T5 form: a history, and the item that came next."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.data.sequences import Sequences
from modalrec.training.batches import Batches, plan_by_length
from modalrec.training.windows import pad


class NextItems(Batches):
    """Every event but a user's first is a target once an epoch, after the items before it.

    The history of a target ends right before it, so that none of the target's codes is in the encoder's input.
    """

    def __init__(self, train: Sequences, history: int, batch_size: int, seed: int, drop_items: float = 0.0) -> None:
        """Plans over the given events.

        Args:
            train: The events to learn from, all of them.
            history: Items before a target, the latest ones.
            batch_size: Examples of a batch.
            seed: Of the order and the dropped items.
            drop_items: Upper bound of the share of items dropped from the histories of a batch.
        """
        self.train, self.history, self.batch_size, self.seed = train, history, batch_size, seed
        self.drop_items = drop_items
        own = np.repeat(train.offsets[:-1], np.diff(train.offsets))
        self.ends = np.flatnonzero(np.arange(len(own)) > own)
        self.firsts = own[self.ends]
        self.starts = np.maximum(self.firsts, self.ends - history)

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """See `plan_by_length`."""
        return plan_by_length(self.ends - self.starts, self.batch_size, np.random.default_rng([self.seed, epoch, 0]))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """One batch.

        Returns:
            `history` [B, longest], padded at the end with PAD; `target` [B]; `first` [B], each user's first item.
        """
        items = self.train.items
        histories = [items[self.starts[i] : self.ends[i]] for i in indices]
        if self.drop_items:
            rng = np.random.default_rng([self.seed, epoch, step, 1])
            share = rng.uniform(0, self.drop_items)
            histories = [_drop(history, share, rng) for history in histories]
        return {
            "history": torch.from_numpy(pad(histories)),
            "target": torch.from_numpy(items[self.ends[indices]].astype(np.int64)),
            "first": torch.from_numpy(items[self.firsts[indices]].astype(np.int64)),
        }


def _drop(history: NDArray[np.int32], share: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Drops items at random, but keeps at least the latest."""
    keep = rng.random(len(history)) >= share
    keep[-1] |= not keep.any()
    return history[keep]
