"""The stage `ingest`: raw files become a checked, filtered, split dataset, with a summary of all that was dropped."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts.files import sha256_file
from modalrec.artifacts.manifest import write_artifact
from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.data.archives import BadFile
from modalrec.data.cards import draw_card
from modalrec.data.describe import describe_order, describe_split
from modalrec.data.events import Collected, Events, collect
from modalrec.data.filters import k_core
from modalrec.data.images import ImageConfig, ImageWriter, decode, encode
from modalrec.data.sources import ITEM_ROWS, Source
from modalrec.data.splits import leave_one_out, temporal
from modalrec.errors import ConfigError, DataError, Problems
from modalrec.run import Run

ROWS = 1_000_000
"""Rows of a row group of interactions."""


class Config(configs.Config):
    """What is read, what is kept, and how it is split.

    Attributes:
        source: The form of the raw data; by default the one that the folder looks like.
        splits: The first is the headline. By default temporal, then leave_one_out, but the latter alone without times.
        valid_share: Share of the events, by time, for validation in the temporal split.
        test_share: Share of the events, the latest, for test in the temporal split.
        min_user_events: Users with fewer are dropped; 5 and 5 make the 5-core that most papers report on.
        min_item_events: Items with fewer are dropped.
        positive_rating: Keep events rated at least this; by default a rating of any height is an event.
        deduplicate: Of a user's events with one item keep all, the first or the last.
        max_unknown_share: Share of rows with items that the items table lacks, above which the stage fails.
        keep_cold_items: Keep items without events in the catalogue.
        images: Limits and size of pictures, and what stands in for missing ones.
    """

    source: plugins.any_config("sources") | None = None  # type: ignore[valid-type]
    splits: tuple[Literal["temporal", "leave_one_out"], ...] | None = Field(default=None, min_length=1)
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    test_share: float = Field(default=0.1, gt=0, lt=1)
    min_user_events: int = Field(default=5, ge=1)
    min_item_events: int = Field(default=5, ge=1)
    positive_rating: float | None = None
    deduplicate: Literal["all", "first", "last"] = "all"
    max_unknown_share: float = Field(default=0.05, ge=0, le=1)
    keep_cold_items: bool = False
    images: ImageConfig = ImageConfig()

    @model_validator(mode="after")
    def _possible(self) -> "Config":
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share leave nothing to train on; their sum must be below 1")
        if self.splits and len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: one is named twice")
        return self


def ingest(source: Path, dataset: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Reads a folder of raw data and writes a dataset.

    Args:
        source: The folder; see the sources for the files they expect.
        dataset: The folder to write.
        config: What to keep and how to split.
        run: Progress.

    Returns:
        Counts: what was read, dropped and kept. All of them, with reasons, are also in the manifest's statistics.

    Raises:
        ConfigError: A setting asks for what the data does not have, such as times.
        DataError: The data is malformed, or nothing is left of it.
    """
    reader, config = _open(source, config)
    with write_artifact(dataset, "dataset", stage="ingest", config=config, seed=run.seed, inputs={}) as work:
        items = _read_items(reader, run)
        summary: list[dict[str, Any]] = []
        events, collected = _filter(*_read_events(reader, items, config, run), config, summary)
        events, users, kept = events.renumbered()
        numbers: dict[str, float] = {
            "rows_read": collected.rows,
            "items_read": items.num_rows,
            "items_without_events": items.num_rows - len(kept),
            **{f"dropped_{step['step']}": step["interactions"] for step in summary},
            "users": len(users),
            "interactions": len(events),
        }
        if config.keep_cold_items:
            events = replace(events, items=kept[events.items].astype(np.int32))
            kept = np.arange(items.num_rows)
        items = items.take(kept)
        splits, split_facts = _split(events, items.num_rows, config)
        images, image_numbers, bad = _write_images(reader, items, config.images, work.folder, run)
        numbers |= {"items": items.num_rows, "texts": items.num_rows - items["text"].null_count} | image_numbers
        for split, facts in split_facts.items():
            numbers |= {f"{split}_{name}": value for name, value in facts.items()}
        order_facts = describe_order(events.users, events.timestamps)
        numbers |= order_facts

        _write(work.folder, events, splits, items, images, [collected.user_ids[user] for user in users])
        work.statistics |= {
            **numbers,
            "summary": summary,
            "bad_images": bad,
            "source": reader.counts,
            "source_files": _digests(reader),
            "splits": list(splits),
        }
    for step in filter(lambda step: step["interactions"], summary):
        run.say(f"dropped {step['interactions']:,} interactions: {step['why']}")
    run.say(f"{len(users):,} users, {items.num_rows:,} items, {len(events):,} interactions")
    if order_facts.get("order_is_weak"):
        run.say("order is weak: many neighbouring events of a user have the same time")
    return {name: float(value) for name, value in numbers.items()}


def _open(folder: Path, config: Config) -> tuple[Source, Config]:
    """The source, and the configuration with what was found out filled in."""
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
    splits = config.splits or (("temporal", "leave_one_out") if reader.has_timestamps else ("leave_one_out",))
    if "temporal" in splits and not reader.has_timestamps:
        raise ConfigError(
            f"splits: temporal needs times, and {reader.events_file} has only an order; use splits=[leave_one_out]"
        )
    if config.positive_rating is not None and not reader.has_ratings:
        raise ConfigError(f"positive_rating: {reader.events_file} has no ratings; leave it out")
    return reader, config.model_copy(update={"source": chosen, "splits": splits})


def _read_items(reader: Source, run: Run) -> pa.Table:
    batches = []
    with run.progress("items read") as progress:
        for batch in reader.items():
            batches.append(batch)
            progress.advance(batch.num_rows)
    return pa.Table.from_batches(batches, ITEM_ROWS)


def _read_events(reader: Source, items: pa.Table, config: Config, run: Run) -> tuple[Events, Collected]:
    rows: dict[str, int] = {}
    problems = Problems(reader.items_file)
    for row, item in enumerate(items["item_id"].to_pylist()):
        if rows.setdefault(item, row) != row:
            problems.add(f"row {row + 1}", f"item {item!r} stands already in row {rows[item] + 1}")
    problems.raise_if_any("Keep one row an item")
    with run.progress("interactions read") as progress:

        def batches() -> Any:
            for batch in reader.interactions():
                yield batch
                progress.advance(batch.num_rows)

        events, collected = collect(batches(), rows, timestamps=reader.has_timestamps, ratings=reader.has_ratings)
    lost = collected.unknown.total()
    if lost > config.max_unknown_share * collected.rows:
        some = ", ".join(repr(item) for item, _ in collected.unknown.most_common(5))
        raise DataError(
            f"{reader.events_file}: {lost:,} of {collected.rows:,} rows name {len(collected.unknown):,} items that are "
            f"not in {reader.items_file} (such as {some}). Complete the items or raise max_unknown_share"
        )

    return events, collected


def _filter(
    events: Events, collected: Collected, config: Config, summary: list[dict[str, Any]]
) -> tuple[Events, Collected]:
    """The events that pass all filters; what each filter took away is added to the summary."""

    def note(step: str, dropped: int, why: str, **more: Any) -> None:
        summary.append({"step": step, "interactions": int(dropped), "why": why, **more})

    unknown = collected.unknown
    examples = [item for item, _ in unknown.most_common(5)]
    note("unknown_item", unknown.total(), "their item is not in the items table", items=len(unknown), examples=examples)
    repeats = events.exact_repeats()
    note("exact_repeats", repeats.sum(), "user, item, time and rating equal another row's")
    events = events.take(~repeats)
    if config.positive_rating is not None and events.ratings is not None:
        good = events.ratings >= config.positive_rating
        note("below_rating", (~good).sum(), f"rated below {config.positive_rating:g} or not at all")
        events = events.take(good)
    if config.deduplicate != "all":
        chosen = events.once(config.deduplicate)
        note("repeated_items", (~chosen).sum(), f"not the user's {config.deduplicate} event with the item")
        events = events.take(chosen)
    keep, rounds = k_core(events.users, events.items, config.min_user_events, config.min_item_events)
    least = f"{config.min_user_events} events a user, {config.min_item_events} an item"
    note("core", (~keep).sum(), f"fewer than {least}", rounds=[vars(one) for one in rounds])
    if not keep.any():
        steps = "; ".join(f"{step['interactions']:,} dropped: {step['why']}" for step in summary)
        raise DataError(
            f"no interaction is left of {collected.rows:,} rows: {steps}. "
            "Lower min_user_events and min_item_events, or look at the rows above"
        )
    return events.take(keep), collected


def _split(
    events: Events, n_items: int, config: Config
) -> tuple[dict[str, NDArray[np.int8]], dict[str, dict[str, float]]]:
    """The split columns by name, and what is to be known of each."""
    splits: dict[str, NDArray[np.int8]] = {}
    facts: dict[str, dict[str, float]] = {}
    for name in config.splits or ():
        cuts: list[int] = []
        if name == "temporal" and events.timestamps is not None:
            splits[name], cuts = temporal(events.timestamps, config.valid_share, config.test_share)
        else:
            splits[name] = leave_one_out(events.users)
        facts[name] = describe_split(events.users, events.items, splits[name], n_items)
        facts[name] |= dict(zip(("valid_cut", "test_cut"), cuts, strict=False))
    return splits, facts


def _write_images(
    reader: Source, items: pa.Table, config: ImageConfig, folder: Path, run: Run
) -> tuple[list[str], dict[str, float], dict[str, Any]]:
    """Writes given and drawn pictures; returns each item's state, counts, and bad pictures by reason."""
    archive = reader.pictures()
    if archive is None and items["picture"].null_count < items.num_rows:
        named = items.filter(pc.is_valid(items["picture"])).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{reader.items_file}: item {named['item_id']!r} names the picture {named['picture']!r}, and there is no "
            "folder `images` and no `images.zip` beside the file; add one, or leave the pictures out of the table"
        )
    states: list[str] = []
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    named = 0
    with ImageWriter(folder) as writer:
        for row, item in enumerate(run.track(items.to_pylist(), "pictures")):
            state, picture = "none", None
            if archive is not None and item["picture"] is not None:
                named += 1
                try:
                    name = archive.find(item["picture"])
                    if name is None:
                        raise BadFile("no such file")
                    picture = decode(archive.read(name, config.max_bytes), config.max_pixels, config.max_side)
                    state = "given"
                except BadFile as error:
                    reasons[str(error)] += 1
                    examples.append(f"item {item['item_id']}, {item['picture']}: {error}")
            if picture is None and config.missing == "draw":
                state, picture = "drawn", draw_card(item["title"], item["year"], item["categories"] or [])
            if picture is not None:
                writer.add(row, encode(picture, config.jpeg_quality), picture.size)
            states.append(state)
    bad = reasons.total()
    if archive is not None and bad > config.max_bad_share * named:
        problems = Problems(archive.path)
        for example in examples:
            problems.add("", example)
        problems.raise_if_any(
            f"{bad:,} of {named:,} pictures are bad, more than max_bad_share={config.max_bad_share:g}. Mend or raise it"
        )
    counts = Counter(states)
    numbers = {f"images_{state}": counts[state] for state in ("given", "drawn", "none")} | {"images_bad": bad}
    return states, dict(numbers), {"reasons": dict(sorted(reasons.items())), "examples": examples[:20]}


def _write(
    folder: Path,
    events: Events,
    splits: dict[str, NDArray[np.int8]],
    items: pa.Table,
    images: list[str],
    user_ids: list[str],
) -> None:
    columns = [items[name] if name in items.column_names else pa.array(images) for name in ITEMS.names]
    pq.write_table(pa.Table.from_arrays(columns, schema=ITEMS), folder / "items.parquet")
    pq.write_table(pa.table([pa.array(user_ids, pa.string())], schema=USERS), folder / "users.parquet")
    starts = np.searchsorted(events.users, np.arange(len(user_ids)))
    schema = pa.schema([*INTERACTIONS, *(pa.field(f"split_{name}", pa.int8(), nullable=False) for name in splits)])
    with pq.ParquetWriter(folder / "interactions.parquet", schema) as writer:
        for begin in range(0, len(events), ROWS):
            part = slice(begin, begin + ROWS)
            users = events.users[part]
            n = len(users)
            position = (np.arange(begin, begin + n) - starts[users]).astype(np.int32)
            times = pa.nulls(n, pa.int64()) if events.timestamps is None else pa.array(events.timestamps[part])
            ratings = pa.nulls(n, pa.float32())
            if events.ratings is not None:
                ratings = pa.array(events.ratings[part], from_pandas=True)
            arrays = [pa.array(users), pa.array(events.items[part]), pa.array(position), times, ratings]
            arrays += [pa.array(split[part]) for split in splits.values()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _digests(reader: Source) -> dict[str, dict[str, Any]]:
    """Size and digest of every file that the dataset was made from."""
    paths = (reader.items_file, reader.events_file, *reader.other_files)
    return {path.name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in paths}
