"""The third part of `ingest`: pictures from the folder, a zip or the web, re-encoded once."""

from collections import Counter
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from modalrec.data.archives import Archive, BadFile
from modalrec.data.cards import draw_card
from modalrec.data.downloads import Downloads
from modalrec.data.images import ImageConfig, ImageWriter, decode, encode
from modalrec.errors import DataError, Problems
from modalrec.run import Run


class Pictured(Protocol):
    """What has pictures: a source, or a table of items alone."""

    @property
    def items_file(self) -> Path:
        """Where the items come from, for messages."""

    def pictures(self) -> Archive | None:
        """The folder or zip of pictures, or None."""


Item = dict[str, Any]
Content = bytes | BadFile | None


def write_images(
    reader: Pictured, items: pa.Table, config: ImageConfig, folder: Path, cache: Path, run: Run
) -> tuple[list[str], dict[str, float], dict[str, Any]]:
    """Writes given and drawn pictures; returns each item's state, counts, and bad pictures by reason.

    Args:
        reader: Has the folder or zip of pictures.
        items: `ITEM_ROWS` of the dataset's items.
        config: Limits and size.
        folder: The building place of the dataset.
        cache: Where downloads are kept, unless the configuration says it.
        run: Progress.

    Raises:
        DataError: Too many pictures are bad, or some are named and none are there.
        UpstreamError: No host answers any more.
    """
    archive = reader.pictures()
    if archive is None and items["picture"].null_count < items.num_rows:
        named = items.filter(pc.is_valid(items["picture"])).slice(0, 1).to_pylist()[0]
        raise DataError(
            f"{reader.items_file}: item {named['item_id']!r} names the picture {named['picture']!r}, and there is no "
            "folder `images` and no `images.zip` beside the file; add one, or leave the pictures out of the table"
        )
    downloads = _downloads(items, config, cache, run)
    if archive is None and downloads is None and config.missing != "draw":
        counts = {"images_given": 0, "images_drawn": 0, "images_none": items.num_rows, "images_bad": 0}
        return ["none"] * items.num_rows, dict(counts), {"reasons": {}, "examples": []}
    states: list[str] = []
    reasons: Counter[str] = Counter()
    examples: list[str] = []
    tried = 0
    contents = downloads.contents(_urls(items)) if downloads else repeat(None)
    with ImageWriter(folder) as writer:
        rows = zip(_rows(items), contents, strict=False)
        for row, (item, fetched) in enumerate(run.track(rows, "pictures", items.num_rows)):
            state, picture = "none", None
            named = item["picture"] or (item["picture_url"] if downloads else None)
            if named is not None:
                tried += 1
                try:
                    content = _content(archive, item, fetched, config.max_bytes)
                    picture = decode(content, config.max_pixels, config.max_side)
                    if item["picture"] is None and picture.size == (1, 1):
                        raise BadFile("a single pixel")  # what shops send for pictures that are gone
                    state = "given"
                except BadFile as error:
                    picture = None
                    reasons[str(error)] += 1
                    examples.append(f"item {item['item_id']}, {named}: {error}")
            if picture is None and config.missing == "draw":
                state, picture = "drawn", draw_card(item["title"], item["year"], item["categories"] or [])
            if picture is not None:
                writer.add(row, encode(picture, config.jpeg_quality), picture.size)
            states.append(state)
    if downloads:
        counts = downloads.counts
        run.say(
            f"{counts['fetched']:,} pictures fetched ({counts['bytes'] / 1e6:,.1f} MB), {counts['cached']:,} were in "
            f"{downloads.cache}"
        )
    _refuse_bad(reader, archive, reasons.total(), tried, examples, config)
    kinds = Counter(states)
    numbers = {f"images_{state}": kinds[state] for state in ("given", "drawn", "none")}
    numbers |= {"images_bad": reasons.total()}
    return states, dict(numbers), {"reasons": dict(sorted(reasons.items())), "examples": examples[:20]}


def _downloads(items: pa.Table, config: ImageConfig, cache: Path, run: Run) -> Downloads | None:
    with_url = pc.and_(pc.is_valid(items["picture_url"]), pc.is_null(items["picture"]))
    addresses = pc.sum(with_url, min_count=0).as_py()
    if not config.download:
        if addresses:
            run.say(f"{addresses:,} items have the address of a picture only; images.download=true fetches them")
        return None
    place = Path(config.downloads.cache) if config.downloads.cache else cache
    return Downloads(config.downloads, place, config.max_bytes)


def _rows(items: pa.Table) -> Iterator[Item]:
    for batch in items.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _urls(items: pa.Table) -> Iterator[str | None]:
    for item in _rows(items.select(["picture", "picture_url"])):
        yield item["picture_url"] if item["picture"] is None else None


def _content(archive: Archive | None, item: Item, fetched: Content, max_bytes: int) -> bytes:
    if item["picture"] is None:
        if not isinstance(fetched, bytes):
            raise fetched or BadFile("no such file")
        return fetched
    name = archive.find(item["picture"]) if archive else None
    if archive is None or name is None:
        raise BadFile("no such file")
    return archive.read(name, max_bytes)


def _refuse_bad(
    reader: Pictured, archive: Archive | None, bad: int, tried: int, examples: list[str], config: ImageConfig
) -> None:
    if bad <= config.max_bad_share * tried:
        return
    problems = Problems(archive.path if archive else reader.items_file)
    for example in examples:
        problems.add("", example)
    problems.raise_if_any(
        f"{bad:,} of {tried:,} pictures are bad, more than max_bad_share={config.max_bad_share:g}. Mend or raise it"
    )
