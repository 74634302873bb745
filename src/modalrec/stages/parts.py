"""What `evaluate` ranks on: the test part of a split, and further test sets that share its training events."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences, Targets
from modalrec.data.splits import TEST, TRAIN, VALID
from modalrec.errors import ConfigError
from modalrec.evaluation.results import Dropped
from modalrec.run import Run

ALL = "all"


@dataclass(frozen=True)
class Rules:
    """What becomes of a test part before it is ranked.

    Attributes:
        every: Each test event is a target, not only the user's last.
        drop_unseen: Leave out what training has not seen: test events, and items among the candidates.
        with_valid: The models were trained on the validation events too.
    """

    every: bool
    drop_unseen: bool
    with_valid: bool


@dataclass(frozen=True)
class Part:
    """Targets and what may be recommended for them.

    Attributes:
        name: Empty for the headline's; rows of others carry it in front.
        sequences: The events that histories are read from.
        targets: What to rank.
        candidates: [n_items] what may be recommended, None for everything.
        dropped: What was taken out, where unseen items are dropped.
    """

    name: str
    sequences: Sequences
    targets: Targets
    candidates: NDArray[np.bool_] | None = None
    dropped: Dropped | None = None

    def shuffled(self, rng: np.random.Generator) -> "Part":
        """The same targets after histories without any order."""
        return replace(self, sequences=self.sequences.shuffled(rng, TEST))


def load_part(dataset: Path, split: str, rules: Rules, run: Run, name: str = "") -> Part:
    """Reads the test part of a split.

    Raises:
        ConfigError: The dataset has no such split.
    """
    sequences = Sequences.load(dataset, split)
    if rules.with_valid:
        sequences = sequences.with_valid()
    if not rules.drop_unseen:
        return Part(name, sequences, sequences.targets(TEST, rules.every))
    known = sequences.known()
    targets = known.targets(TEST, rules.every)
    lost = (sequences.split != TRAIN) & (sequences.train_counts() == 0)[sequences.items]
    users = np.repeat(np.arange(sequences.n_users), np.diff(sequences.offsets))
    tested = np.zeros(sequences.n_users, bool)
    tested[users[sequences.split == TEST]] = True
    without = np.setdiff1d(sequences.targets(TEST).users, targets.users)
    dropped = Dropped(int((lost & tested[users]).sum()), len(without))
    people = "sessions" if split.startswith("sessions") else "users"
    run.say(
        f"{split}: dropped {dropped.events:,} test events whose item has no train event; {dropped.users:,} {people} "
        f"lost all their targets, {len(np.unique(targets.users)):,} are left with {len(targets):,}"
    )
    return Part(name, known, targets, sequences.train_counts() > 0, dropped)


def load_test_sets(dataset: Path, wanted: Sequence[str], rules: Rules, run: Run, headline: Part) -> list[Part]:
    """Reads further test sets of the headline's split, each named by what follows the split in its name.

    Raises:
        ConfigError: The dataset has no such test set, or its training events are not the headline's.
    """
    split = headline.sequences.split_name
    columns = pq.read_schema(dataset / "interactions.parquet").names
    known = [column.removeprefix("split_") for column in columns if column.startswith(f"split_{split}_")]
    parts = []
    for name in known if ALL in wanted else wanted:
        if name not in known:
            raise ConfigError(f"test_sets: {name!r}: the dataset has {', '.join(known) or 'none'} beside {split}")
        suffix = name.removeprefix(f"{split}_")
        if not re.fullmatch(r"\w+", suffix, re.ASCII):
            raise ConfigError(f"test_sets: {name!r}: metrics are named after it; use letters, digits and _ in its name")
        part = load_part(dataset, name, rules, run, suffix)
        if not _same_training(headline.sequences, part.sequences):
            raise ConfigError(
                f"test_sets: {name!r} has other train or validation events than {split!r}; run ingest again with both "
                "test sets"
            )
        parts.append(part)
    return parts


def _same_training(ours: Sequences, theirs: Sequences) -> bool:
    for split in (TRAIN, VALID):
        mine, other = ours.keep(ours.split == split), theirs.keep(theirs.split == split)
        if not (np.array_equal(mine.items, other.items) and np.array_equal(mine.offsets, other.offsets)):
            return False
    return True
