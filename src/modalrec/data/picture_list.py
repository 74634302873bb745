"""Pictures of items by a list of addresses: into a folder that `ingest` takes, politely, and resumed when stopped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from modalrec import config
from modalrec.artifacts.files import write_bytes
from modalrec.data.archives import BadFile
from modalrec.data.downloads import DownloadConfig, Downloads
from modalrec.data.images import ImageConfig, decode, encode
from modalrec.data.sources._columns import find_columns, read_columns
from modalrec.errors import DataError, Problems
from modalrec.run import Run

CACHE = ".downloads"
"""Folder of what was fetched, in the folder of pictures; it may be removed."""
NAME = re.compile(r"[\w][\w.@+=,:-]{0,199}")
"""Item ids that can name a file everywhere."""


class ListColumns(config.Config):
    """The columns of the list."""

    item_id: str = "item_id"
    url: str = "url"


class PictureListConfig(config.Config):
    """How a list is read and its pictures are kept.

    Attributes:
        columns: Column names.
        images: Limits of pictures; `max_side` is the size that they are kept at.
        downloads: How they are fetched.
    """

    columns: ListColumns = ListColumns()
    images: ImageConfig = ImageConfig()
    downloads: DownloadConfig = DownloadConfig()


def fetch_pictures(path: Path, folder: Path, config: PictureListConfig, run: Run) -> dict[str, float]:
    """Fetches the picture of every item of a list that has none in the folder yet.

    Args:
        path: CSV or parquet with the columns `item_id` and `url`, one picture an item.
        folder: Gets `<item_id>.jpg`, which the source `tables` finds by that name.
        config: Columns and limits.
        run: Progress.

    Returns:
        How many were `listed`, `there` already, `fetched`, and `bad`.

    Raises:
        DataError: The list is malformed, or more pictures are bad than may be.
        UpstreamError: No host answers any more.
    """
    listed = _read(path, config.columns)
    wanted = [(item, url) for item, url in listed if not (folder / f"{item}.jpg").exists()]
    cache = Path(config.downloads.cache) if config.downloads.cache else folder / CACHE
    downloads = Downloads(config.downloads, cache, config.images.max_bytes)
    bad: list[tuple[str, str, str]] = []
    contents = downloads.contents(url for _, url in wanted)
    for (item, url), content in zip(run.track(wanted, "pictures"), contents, strict=True):
        try:
            if not isinstance(content, bytes):
                raise content or BadFile("no address")
            picture = decode(content, config.images.max_pixels, config.images.max_side)
        except BadFile as fault:
            bad.append((item, url, str(fault)))
            continue
        write_bytes(folder / f"{item}.jpg", encode(picture, config.images.jpeg_quality))
    for item, url, reason in bad[:10]:
        run.say(f"no picture of {item}: {reason} ({url[:100]})")
    if wanted and len(bad) / len(wanted) > config.images.max_bad_share:
        raise DataError(
            f"{path}: {len(bad):,} of {len(wanted):,} pictures are bad (first: {bad[0][0]}, {bad[0][2]}); look at the "
            "addresses, or raise images.max_bad_share; the good ones are kept"
        )
    counts = {"listed": len(listed), "there": len(listed) - len(wanted), "bad": len(bad)}
    return {**counts, "fetched": len(wanted) - len(bad)}


def _read(path: Path, columns: ListColumns) -> list[tuple[str, str]]:
    names = find_columns(path, columns, ["item_id", "url"], "columns")
    problems, seen, found = Problems(path), set[str](), []
    for row, (item, url) in enumerate(_rows(path, names), start=1):
        if not item or not NAME.fullmatch(item):
            problems.add(f"row {row}", f"item {item!r} cannot name a file")
        elif item in seen:
            problems.add(f"row {row}", f"item {item!r} stands in an earlier row too")
        elif not url:
            problems.add(f"row {row}", f"item {item!r} has no address")
        else:
            found.append((item, url))
        seen.add(item or "")
    problems.raise_if_any("Give one row an item: its id and the address of its picture")
    if not found:
        raise DataError(f"{path}: has no rows; give one row an item: its id and the address of its picture")
    return found


def _rows(path: Path, names: dict[str, str]) -> Iterator[tuple[str | None, str | None]]:
    for batch in read_columns(path, names, dict.fromkeys(names, pa.string()), []):
        yield from zip(batch.column("item_id").to_pylist(), batch.column("url").to_pylist(), strict=True)
