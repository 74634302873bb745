"""The batches of MP4SR: windows or prefixes of histories and, in pre-training, where the modalities change places."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.data.sequences import Sequences
from modalrec.training.batches import Batches, plan_by_length
from modalrec.training.windows import pad


class Prefixes(Batches):
    """One example for every event but a user's first, as published: the items before it, and itself as the last one."""

    def __init__(self, train: Sequences, length: int, batch_size: int, seed: int, drop_items: float = 0.0) -> None:
        """Plans over the given events.

        Args:
            train: The events to learn from, all of them.
            length: Items of an example, the target among them.
            batch_size: Examples of a batch.
            seed: Of the order and the dropped items.
            drop_items: Upper bound of the share of items dropped from the histories of a batch, but never the first.
        """
        self.items, self.batch_size, self.seed, self.drop_items = train.items, batch_size, seed, drop_items
        firsts = np.repeat(train.offsets[:-1], np.diff(train.offsets))
        places = np.arange(len(train.items))
        self.ends = places[places > firsts]
        self.starts = np.maximum(firsts[self.ends], self.ends + 1 - length)

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """See `plan_by_length`."""
        return plan_by_length(self.ends - self.starts, self.batch_size, np.random.default_rng([self.seed, epoch, 0]))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> Tensor:
        """[B, longest example] items, padded at the end with PAD."""
        rows = [self.items[self.starts[i] : self.ends[i] + 1] for i in indices]
        if self.drop_items:
            rng = np.random.default_rng([self.seed, epoch, step, 1])
            share = rng.uniform(0, self.drop_items)
            for place, row in enumerate(rows):
                keep = rng.random(len(row)) >= share
                keep[[0, -1]] = True
                rows[place] = row[keep]
        return torch.from_numpy(pad(rows))


class Mixed(Batches):
    """Batches of pre-training: beside the items, at which places the sequences of the two modalities are exchanged.

    Args:
        batches: Of items.
        share: Upper bound of the share of places exchanged in a batch; drawn uniformly for each.
        seed: Of the draws.
    """

    def __init__(self, batches: Batches, share: float, seed: int) -> None:
        self.batches, self.share, self.seed = batches, share, seed

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """That of the items."""
        return self.batches.plan(epoch)

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """`items` [B, T + 1], padded at the end, and `exchanged` [B, T]."""
        items_BT: Tensor = self.batches.build(epoch, step, indices)
        rng = np.random.default_rng([self.seed, epoch, step, 3])
        share, shape = rng.uniform(0, self.share), (len(items_BT), items_BT.shape[1] - 1)
        return {"items": items_BT, "exchanged": torch.from_numpy(rng.random(shape) < share)}
