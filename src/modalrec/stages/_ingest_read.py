"""The first part of `ingest`: the source is found, and its items and events are read and checked."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec import plugins
from modalrec.artifacts.files import sha256_file
from modalrec.data.events import Collected, Events, collect
from modalrec.data.histories import Histories
from modalrec.data.sources import ITEM_ROWS, Source
from modalrec.data.splits import UNTIMED
from modalrec.errors import ConfigError, DataError, Problems
from modalrec.run import Run
from modalrec.stages._ingest_config import Config

DEFAULTS = {"min_user_events": 5, "min_item_events": 5, "exact_repeats": "drop", "keep_cold_items": False}
ORDER_ONLY = ("leave_one_out", "cold_items", "given", *UNTIMED)
"""Splits that need no times."""


def open_source(folder: Path, config: Config) -> tuple[Source, Config]:
    """The source, and the configuration with what was found out filled in.

    Raises:
        ConfigError: A setting asks for what the data does not have, such as times.
        DataError: The folder looks like no source, or like several.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; give the folder of the raw data")
    known = plugins.discover("sources")
    chosen: Any = config.source
    if chosen is None:
        fitting = [name for name, cls in known.items() if cls.detect(folder)]
        if len(fitting) != 1:
            expected = "".join(f"\n  {name}: {cls.expects}" for name, cls in known.items())
            files = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
            state = f"looks like {' and '.join(fitting)}" if fitting else "looks like no known source"
            raise DataError(f"{folder}: {state}; it holds {files}. Set source.name, or give one of{expected}")
        chosen = known[fitting[0]].Config()
    reader: Source = plugins.create("sources", chosen, folder)
    by_time = ("temporal", "leave_one_out") if reader.has_timestamps else ("leave_one_out",)
    defaults = {**DEFAULTS, "splits": by_time, **reader.suggested}
    found = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    config = config.model_copy(update={"source": chosen, **found})
    if not reader.has_timestamps:
        for split in config.splits or ():
            if split not in ORDER_ONLY:
                raise ConfigError(
                    f"splits: {split} needs times, and {reader.events_file} has only an order; "
                    "use splits=[leave_one_out]"
                )
        if config.session_gap is not None:
            raise ConfigError(f"session_gap: {reader.events_file} has no times; leave it out")
    if "given" in (config.splits or ()) and not reader.parts:
        raise ConfigError(f"splits: {reader.events_file} does not come in parts; leave `given` out")
    if reader.has_histories and not config.keep_cold_items:
        raise ConfigError("keep_cold_items: histories come with the rows and may name any item; leave it at true")
    if config.label and (reader.has_labels or not reader.has_ratings):
        state = "has labels of its own" if reader.has_labels else "has no ratings to make labels of"
        raise ConfigError(f"label: {reader.events_file} {state}; leave it out")
    if config.published and "sessions" not in (config.splits or ()):
        raise ConfigError(
            "published: counts of the split sessions, which is not among splits; add it, or leave them out"
        )
    if config.positive_rating is not None and not reader.has_ratings:
        raise ConfigError(f"positive_rating: {reader.events_file} has no ratings; leave it out")
    return reader, config


def read_items(reader: Source, folder: Path, run: Run) -> pa.Table:
    """The items as `ITEM_ROWS`, on disk: the products of a whole release have more text than memory holds.

    Args:
        reader: The source.
        folder: Where a file without a name may grow; it is gone with the table.
        run: Progress.

    Raises:
        DataError: The file is malformed, or an item stands twice.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".items-") as file:
        with pa.ipc.new_file(file, ITEM_ROWS) as writer, run.progress("items read") as progress:
            for batch in reader.items():
                writer.write_batch(batch)
                progress.advance(batch.num_rows)
        file.flush()
        return pa.ipc.open_file(pa.memory_map(file.name)).read_all()


def take_items(items: pa.Table, kept: NDArray[np.int64]) -> pa.Table:
    """Rows in ascending order; batch by batch, since no array of strings holds more than 2 GiB."""
    batches, first = [], 0
    for batch in items.to_batches():
        begin, end = np.searchsorted(kept, [first, first + batch.num_rows])
        batches.append(batch.take(pa.array(kept[begin:end] - first)))
        first += batch.num_rows
    return pa.Table.from_batches(batches, items.schema)


def rows_of(ids: list[str], path: Path) -> dict[str, int]:
    """The row of every item.

    Raises:
        DataError: An item stands twice.
    """
    rows: dict[str, int] = {}
    problems = Problems(path)
    for row, item in enumerate(ids):
        if rows.setdefault(item, row) != row:
            problems.add(f"row {row + 1}", f"item {item!r} stands already in row {rows[item] + 1}")
    problems.raise_if_any("Keep one row an item")
    return rows


def read_events(
    reader: Source, items: pa.Table, config: Config, histories: Histories | None, run: Run
) -> tuple[Events, Collected]:
    """The events of known items, sorted; their histories go to `histories`, where they have any.

    Raises:
        DataError: The file is malformed, or too many rows or histories name unknown items.
    """
    ids = items["item_id"].to_pylist()
    rows = rows_of(ids, reader.items_file)
    with run.progress("interactions read") as progress:

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in reader.interactions():
                yield batch
                progress.advance(batch.num_rows)

        events, collected = collect(
            batches(),
            rows,
            keep=[name for name, kept in _kept(reader).items() if kept],
            histories=histories,
            per_second=reader.per_second,
            ties=_ties(ids, config),
        )
    _refuse_unknown(reader, collected.unknown, collected.rows, "rows", config)
    if histories is not None:
        _refuse_unknown(reader, histories.unknown, histories.entries, "entries of histories", config)
    if config.label is not None:
        events = events.labelled(config.label.at_least)
    return events, collected


def _kept(reader: Source) -> dict[str, bool]:
    """Which optional columns of the rows the source fills."""
    return {
        "timestamp": reader.has_timestamps or reader.times_only_sort,
        "rating": reader.has_ratings,
        "role": reader.has_roles,
        "label": reader.has_labels,
        "row_id": reader.has_row_ids,
    }


def _refuse_unknown(reader: Source, unknown: Counter[str], total: int, what: str, config: Config) -> None:
    lost = unknown.total()
    if lost > config.max_unknown_share * total:
        some = ", ".join(repr(item) for item, _ in unknown.most_common(5))
        raise DataError(
            f"{reader.events_file}: {lost:,} of {total:,} {what} name {len(unknown):,} items that are "
            f"not in {reader.items_file} (such as {some}). Complete the items or raise max_unknown_share"
        )


def digests(reader: Source, folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file that the dataset was made from, by its path in the folder of raw data."""
    paths = dict.fromkeys((reader.items_file, reader.events_file, *reader.other_files))
    return {_within(path, folder): {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths}


def _within(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def _ties(ids: list[str], config: Config) -> NDArray[np.int32] | None:
    """The rank [items] by which events of one time are sorted."""
    if config.ties == "file":
        return None
    order = np.arange(len(ids))
    if config.ties == "item_id":
        numeric = all(item.isascii() and item.isdigit() for item in ids)
        order = np.array(sorted(order, key=lambda row: int(ids[row]) if numeric else ids[row]), np.int64)
    ranks = np.empty(len(ids), np.int32)
    ranks[order] = np.arange(len(ids), dtype=np.int32)
    return ranks
