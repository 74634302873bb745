"""How `fuse` trains a fuser: which items it learns from, and in what batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.artifacts.embeddings import load
from modalrec.errors import DataError
from modalrec.fusers import TrainedFuser
from modalrec.run import Run
from modalrec.training.batches import Batches, shuffled_plan
from modalrec.training.loop import TrainingConfig, fit

# N items, D length of a modality's vectors.

MONITOR = "held_out_objective"
INITIAL_ROWS = 65_536
VALID_ROWS = 4096
"""At most so many items stop training: each is told from all others, which costs their number squared."""


@dataclass(frozen=True)
class Modalities:
    """All items' vectors in memory: 4 bytes x N x D for each modality.

    Attributes:
        item_ids: [N] ids, in the dataset's order.
        vectors: From modality to [N, D]; zero where missing.
        present: From modality to [N].
    """

    item_ids: NDArray[np.object_]
    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]

    def rows(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Some of the items as a `ModalityBatch`."""
        batch = {name: torch.from_numpy(vectors[rows]) for name, vectors in self.vectors.items()}
        return batch | {f"{name}_present": torch.from_numpy(flags[rows]) for name, flags in self.present.items()}


class Shares(NamedTuple):
    """Rows of train items, in random order, by what they are for; all others are fused and nothing else.

    Attributes:
        train: Learnt from.
        valid: Decide when to stop.
        test: Only measured on.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


class ModalityBatches(Batches):
    """All train items once an epoch, in an order that depends on the seed and the epoch."""

    def __init__(self, modalities: Modalities, rows: NDArray[np.int64], batch_size: int, run: Run) -> None:
        self.modalities, self.rows, self.batch_size, self.run = modalities, rows, batch_size, run

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The places in `rows` of each batch."""
        return shuffled_plan(len(self.rows), self.batch_size, self.run.rng("modalities", epoch))

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """The items of a batch."""
        return self.modalities.rows(self.rows[indices])


def read_modalities(folders: Mapping[str, Path]) -> Modalities:
    """Reads the vectors of all modalities, which are known to be about the same items.

    Raises:
        ArtifactError: One is damaged, or not finite.
    """
    parts = {name: load(folder) for name, folder in folders.items()}
    vectors = {name: part.vectors_ND * part.present[:, None] for name, part in parts.items()}
    item_ids = next(iter(parts.values())).item_ids
    return Modalities(item_ids, vectors, {name: part.present for name, part in parts.items()})


def share_out(
    modalities: Modalities, of_train: NDArray[np.bool_] | None, test_share: float, valid_share: float, run: Run
) -> Shares:
    """Shares the train items out at random, whatever the other items are.

    Raises:
        DataError: No train item is present.
    """
    taken = np.logical_or.reduce(list(modalities.present.values()))
    if of_train is not None:
        taken = taken & of_train
    rows = np.flatnonzero(taken)
    if not len(rows):
        which = "present" if of_train is None else "present and has a train event"
        raise DataError(
            f"fuse: none of the {len(taken):,} items is {which}; use fuser.name=concat, which learns nothing"
        )
    order = run.rng("held_out").permutation(rows)
    first, second = int(len(rows) * test_share), int(len(rows) * (test_share + valid_share))
    return Shares(train=order[second:], valid=order[first:second], test=order[:first])


def learn(
    fuser: TrainedFuser, modalities: Modalities, shares: Shares, config: TrainingConfig, run: Run, fingerprint: str
) -> list[dict[str, float]]:
    """Trains a fuser in place, as `fit`, and returns the curves; none where the items teach it nothing."""
    device = run.torch_device()
    sample = np.sort(run.rng("initialise").permutation(shares.train)[:INITIAL_ROWS])
    start = modalities.rows(sample)
    fuser.initialise(start)
    fuser.to(device).eval()
    if not fuser.learns(start):
        run.say("nothing is trained: too few items have what the fuser learns from")
        return []
    torch.manual_seed(run.seed)  # dropout and masks draw from it; a checkpoint keeps its state
    held_out = {name: value.to(device) for name, value in modalities.rows(shares.valid[:VALID_ROWS]).items()}

    def validate() -> dict[str, float]:
        return {MONITOR: -fuser.held_out_loss(held_out)}

    return fit(
        fuser,
        ModalityBatches(modalities, shares.train, config.batch_size, run),
        config=config,
        run=run,
        fingerprint=fingerprint,
        validate=validate if len(shares.valid) else None,
        monitor=MONITOR,
    )
