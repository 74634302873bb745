"""What training and histories know of a test part, counted again in the dataset, whoever has split it.

Users are read one block after the other, so that memory does not grow with the number of events.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.features import PARTS, read_features
from modalrec.artifacts.schemas import INTERACTIONS, check_columns, stream
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, UNTIMED, UNUSED, in_full

# B events of a block of whole users, N items.

BATCH = 1 << 18
"""Events at a time."""
KINDS = {1: "positive", 0: "negative", -1: "hidden"}
"""Of labelled rows, by label."""
UNKNOWN = np.iinfo(np.int64).min
"""Time of an event that has none."""
Block = Mapping[str, NDArray[Any]]
"""By column [B]: user, item, split, time, and of labelled rows label and `given`: the item is in the history that came
with the row."""


@dataclass(frozen=True)
class Leakage:
    """What is to be known of a test part before its numbers are believed.

    Attributes:
        split: Its split.
        timed: Every event has a time; else `last_train`, `first_test`, `early`, `disordered` and `twice` are 0.
        given: The histories came with the rows.
        events: Test events.
        users: Users, or sessions, that have one.
        last_train: Time of the last train event, in seconds since 1970.
        first_test: Time of the first test event.
        early: Test events that are not later than the last train event.
        disordered: Test events that have a later one in their history.
        twice: Test events that training has too: the same user, item and time.
        met: By kind (test event; of labelled rows positive, negative, hidden): how many there are, and whose item is in
            their own history.
        new_users: Users with a test event and none in training.
        new_items: Test events whose item has no train event.
        told: Features of the source that tell how popular an item is.
    """

    split: str
    timed: bool
    given: bool
    events: int
    users: int
    last_train: int
    first_test: int
    early: int
    disordered: int
    twice: int
    met: dict[str, tuple[int, int]]
    new_users: int
    new_items: int
    told: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the events are labelled rows."""
        return bool(self.met.keys() & {*KINDS.values()})


def measure_leakage(dataset: Path, split: str, *, with_valid: bool = False) -> Leakage:
    """Counts what is known of the test part of a split.

    Args:
        dataset: The dataset.
        split: One of its splits.
        with_valid: The validation part was for training too.

    Raises:
        ArtifactError: The dataset is damaged.
    """
    path = dataset / "interactions.parquet"
    names = check_columns(path, INTERACTIONS)
    n_items = pq.read_metadata(dataset / "items.parquet").num_rows
    seen_N, timed, last_train = np.zeros(n_items, bool), True, UNKNOWN
    for block in _blocks(path, ["user", "item", "timestamp"], split, with_valid):
        train = block["split"] == TRAIN
        seen_N[block["item"][train]] = True
        timed &= not (block["time"] == UNKNOWN).any()
        last_train = max(last_train, int(block["time"][train].max(initial=UNKNOWN)))
    wanted = ["user", "item", "timestamp", *(name for name in ("label", "history") if name in names)]
    counts: Counter[str] = Counter()
    first_test = np.iinfo(np.int64).max
    for block in _blocks(path, wanted, split, with_valid):
        counts.update(_count(block, seen_N, split in UNTIMED))
        if timed:
            counts.update(_count_times(block, last_train))
            first_test = min(first_test, int(block["time"][block["split"] == TEST].min(initial=first_test)))
    kinds = KINDS.values() if "label" in names else ("test event",)
    plain = ("events", "users", "early", "disordered", "twice", "new_users", "new_items")
    return Leakage(
        split=split,
        timed=timed,
        given="history" in names,
        last_train=last_train if timed else 0,
        first_test=int(first_test) if timed and counts["events"] else 0,
        met={kind: (counts[kind], counts[f"{kind} met"]) for kind in kinds if counts[kind]},
        told=tuple(name for part in PARTS for name, one in read_features(dataset, part)[1].items() if one.popularity),
        **{name: counts[name] for name in plain},
    )


def _count(block: Block, seen_N: NDArray[np.bool_], train_only: bool) -> dict[str, int]:
    """Counts of one block that need no times; `train_only` where histories hold train events alone."""
    users, items, train, test = block["user"], block["item"], block["split"] == TRAIN, block["split"] == TEST
    tested = np.unique(users[test])
    kept = train if train_only else np.ones(len(users), bool)
    met = block["given"] if "given" in block else _before([items, users], kept) > 0
    found = {
        "events": int(test.sum()),
        "users": len(tested),
        "new_users": len(np.setdiff1d(tested, users[train])),
        "new_items": int((~seen_N[items[test]]).sum()),
    }
    for label, kind in KINDS.items() if "label" in block else ((0, "test event"),):
        of_kind = test & (block["label"] == label) if "label" in block else test
        found |= {kind: int(of_kind.sum()), f"{kind} met": int((of_kind & met).sum())}
    return found


def _count_times(block: Block, last_train: int) -> dict[str, int]:
    """Counts of one block that need the times."""
    users, times, test = block["user"].astype(np.int64), block["time"], block["split"] == TEST
    if not test.any():
        return {}
    since = times - times.min() + (users - users[0]) * (times.max() - times.min() + 1)  # each user after the one before
    train = block["split"] == TRAIN
    return {
        "early": int((times[test] <= last_train).sum()),
        "disordered": int((test & (np.maximum.accumulate(since) > since)).sum()),
        "twice": int((test & (_before([~train, times, block["item"], users], train) > 0)).sum()),
    }


def _before(keys: list[NDArray[Any]], wanted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[B] wanted events with the same keys that come first in the block.

    A first key that is a flag orders equal ones, those without it first, and is no part of being the same.
    """
    order = np.lexsort(keys)  # stable: equal ones stay in the order of the block
    same = [key[order] for key in keys if key.dtype != bool]
    begins = np.logical_or.reduce([np.append(True, key[1:] != key[:-1]) for key in same])
    counted: NDArray[np.int64] = np.cumsum(wanted[order]) - wanted[order]
    group = np.cumsum(begins) - 1
    found = np.empty(len(order), np.int64)
    found[order] = counted - counted[begins][group]
    return found


def _blocks(path: Path, columns: list[str], split: str, with_valid: bool) -> Iterator[Block]:
    """Blocks of whole users, without the events that the split leaves out."""
    waiting: dict[str, NDArray[Any]] = {}
    with pq.ParquetFile(path) as file:
        for batch in stream(file, BATCH, [*columns, f"split_{split}"]):
            read = _read({name: batch.column(name) for name in columns}, batch.column(f"split_{split}").to_numpy())
            if with_valid:
                read["split"] = np.where(in_full(read["split"]), TRAIN, read["split"])
            used = (read["split"] != UNUSED) & (read["split"] != FULL_ONLY)
            read = {name: values[used] for name, values in read.items()}
            joined = {n: np.concatenate([waiting[n], values]) for n, values in read.items()} if waiting else read
            last = int(np.searchsorted(joined["user"], joined["user"][-1:]).sum())
            if last:
                yield {name: values[:last] for name, values in joined.items()}
            waiting = {name: values[last:] for name, values in joined.items()}
    if waiting and len(waiting["user"]):
        yield waiting


def _read(batch: Mapping[str, pa.Array], split: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    items = batch["item"].to_numpy()
    found = {"user": batch["user"].to_numpy(), "item": items, "split": split}
    found["time"] = batch["timestamp"].fill_null(UNKNOWN).to_numpy()
    if "label" in batch:
        found["label"] = batch["label"].fill_null(-1).to_numpy()
    if "history" in batch:
        lengths = batch["history"].value_lengths().to_numpy()
        rows = np.repeat(np.arange(len(items)), lengths)
        same = rows[batch["history"].flatten().to_numpy() == items[rows]]
        found["given"] = np.bincount(same, minlength=len(items)) > 0
    return found
