"""The stage `ingest`: raw files become a checked, filtered, split dataset, with a summary of all that was dropped."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from modalrec.artifacts.features import write_features
from modalrec.artifacts.manifest import write_artifact
from modalrec.data.describe import describe_order
from modalrec.data.histories import Histories
from modalrec.run import Run
from modalrec.stages._ingest_config import Config
from modalrec.stages._ingest_features import features
from modalrec.stages._ingest_images import write_images
from modalrec.stages._ingest_read import digests, open_source, read_events, read_items, take_items
from modalrec.stages._ingest_select import say_published, select, sizes, split_columns
from modalrec.stages._ingest_write import write_tables

__all__ = ["Config", "ingest"]


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
        UpstreamError: Pictures are to be downloaded and no host answers, or what reads a rar is not installed.
    """
    reader, config = open_source(source, config)
    with ExitStack() as stack:
        work = stack.enter_context(
            write_artifact(dataset, "dataset", stage="ingest", config=config, seed=run.seed, inputs={})
        )
        items = read_items(reader, work.folder, run)
        histories = stack.enter_context(Histories(work.folder)) if reader.has_histories else None
        events, collected = read_events(reader, items, config, histories, run)
        chosen = select(events, collected, config, reader.parts)
        del events
        if reader.times_only_sort:
            chosen.events = replace(chosen.events, timestamps=None)
        chosen.events, users, kept = chosen.events.renumbered()
        numbers: dict[str, float] = {
            "rows_read": collected.rows,
            "items_read": items.num_rows,
            "items_without_events": items.num_rows - len(kept),
            **{f"dropped_{step['step']}": step["interactions"] for step in chosen.summary},
            "users": len(users),
            "interactions": len(chosen.events),
        }
        if config.keep_cold_items:
            chosen.events = replace(chosen.events, items=kept[chosen.events.items].astype(np.int32))
            kept = np.arange(items.num_rows)
        items = take_items(items, kept)
        splits, split_facts = split_columns(chosen, items.num_rows, config, reader.parts, run)
        pictures = dataset.with_name(f"{dataset.name}.pictures")
        images, image_numbers, bad = write_images(reader, items, config.images, work.folder, pictures, run)
        numbers |= {"items": items.num_rows, "texts": items.num_rows - items["text"].null_count} | image_numbers
        for split, facts in split_facts.items():
            numbers |= {f"{split}_{name}": value for name, value in facts.items()}
        order_facts = describe_order(chosen.events.users, chosen.events.timestamps, chosen.events.per_second)
        numbers |= order_facts

        if histories is not None:
            numbers |= {"history_entries": histories.entries, "history_unknown": histories.unknown.total()}
        names = chosen.user_names(users, collected.user_ids)
        write_tables(work.folder, chosen.events, histories, splits, items, images, names)
        found = features(reader, items, names)
        if found:
            write_features(work.folder, found)
        for step in filter(lambda step: step["interactions"], chosen.summary):
            run.say(f"dropped {step['interactions']:,} interactions: {step['why']}")
        run.say(f"{len(users):,} users, {items.num_rows:,} items, {len(chosen.events):,} interactions")
        for line in sizes(chosen.counts):
            run.say(line)
        work.statistics |= {
            **numbers,
            "summary": chosen.summary,
            "bad_images": bad,
            "source": reader.counts,
            "source_files": digests(reader, source),
            "splits": list(splits),
            **({"parts": chosen.counts} if chosen.counts else {}),
            **say_published(chosen, config, run),
        }
    if order_facts.get("order_is_weak"):
        run.say("order is weak: many neighbouring events of a user have the same time")
    return {name: float(value) for name, value in numbers.items()}
