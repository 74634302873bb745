"""Histories cut into windows: the training batches of models that learn from every position."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.data.sequences import Sequences
from modalrec.training.batches import Batches, plan_by_length

PAD = -1


class Windows(Batches):
    """Windows of at most `length` consecutive items, batched with windows of similar length so that little is padded.

    Every event but a user's first is a target exactly once an epoch: windows overlap by one item.
    """

    def __init__(
        self,
        train: Sequences,
        length: int,
        batch_size: int,
        seed: int,
        *,
        random_offset: bool = False,
        drop_items: float = 0.0,
    ) -> None:
        """Plans over the given events.

        Args:
            train: The events to learn from, all of them.
            length: Items of a window, inputs and targets together.
            batch_size: Windows of a batch.
            seed: Of the order, the offsets and the dropped items.
            random_offset: Move the cuts of long histories from epoch to epoch.
            drop_items: Upper bound of the share of items dropped from the windows of a batch.
        """
        self.train, self.length, self.batch_size, self.seed = train, length, batch_size, seed
        self.random_offset, self.drop_items = random_offset, drop_items
        self._cut_of: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """See `plan_by_length`."""
        starts, ends = self._windows(epoch)
        return plan_by_length(ends - starts, self.batch_size, np.random.default_rng([self.seed, epoch, 0]))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Tensor:
        """[B, longest window] items, padded at the end with PAD."""
        starts, ends = self._windows(epoch)
        windows = [self.train.items[starts[i] : ends[i]] for i in indices]
        if self.drop_items:
            rng = np.random.default_rng([self.seed, epoch, step, 1])
            share = rng.uniform(0, self.drop_items)
            windows = [_drop(window, share, rng) for window in windows]
        return torch.from_numpy(pad(windows))

    def _windows(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The windows of an epoch, computed once."""
        if self._cut_of is None or self._cut_of[0] != epoch:
            self._cut_of = (epoch, *self._cut(epoch))
        return self._cut_of[1:]

    def _cut(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Start and end of every window, cut from the end of each history backwards."""
        stride = self.length - 1
        firsts, counts = self.train.offsets[:-1], np.diff(self.train.offsets)
        firsts, counts = firsts[counts >= 2], counts[counts >= 2]
        shift = np.zeros(len(counts), np.int64)
        if self.random_offset:
            rng = np.random.default_rng([self.seed, epoch, 2])
            shift = np.where(counts > self.length, rng.integers(0, stride, len(counts)), 0)
        # The last window ends at the history's end; earlier ends lie `stride` apart, moved back by `shift`.
        numbers = 1 + np.ceil(np.maximum(0, counts - self.length + shift) / stride).astype(np.int64)
        first_of = np.repeat(firsts, numbers)
        end_of = np.repeat(firsts + counts, numbers)
        back = np.arange(numbers.sum()) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        ends = np.where(back == 0, end_of, end_of - back * stride + np.repeat(shift, numbers))
        starts = np.maximum(first_of, end_of - (back + 1) * stride - 1 + np.repeat(shift, numbers))
        return starts, ends


def pad(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
    """Rows of different lengths as one array [rows, longest], filled at the end with PAD."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded


def _drop(window: NDArray[np.int32], share: float, rng: np.random.Generator) -> NDArray[np.int32]:
    """Drops items at random, but keeps at least two."""
    keep = rng.random(len(window)) >= share
    keep[:2] |= keep.sum() < 2
    return window[keep]
