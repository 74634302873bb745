"""An item on a card: its picture, or its title on a colour."""

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

from modalrec.data.images import read_image_bytes
from modalrec.evaluation.report.text import clean

HEIGHT, QUALITY = 144, 68
BUDGET = 1_800_000
"""Bytes of pictures in a section of a report; what comes after is shown as a labelled tile."""


@dataclass(frozen=True)
class Tile:
    """An item: its picture as a `data:` URI, or none, then the title stands on a colour.

    Attributes:
        state: given, drawn or none, as in `items.parquet`.
        hue: Of the tile without a picture.
        target: Whether it is the user's held-out item.
        shared: How many leading codes it has in common with that one.
    """

    title: str
    picture: str
    state: str
    hue: int
    target: bool = False
    shared: int = 0


def tiles_of(dataset: Path, items: Sequence[int], height: int = HEIGHT) -> dict[int, Tile]:
    """The tiles of some items, by item.

    Args:
        dataset: Titles and pictures.
        items: Indices, ascending.
        height: Of the pictures.
    """
    states = pq.read_table(dataset / "items.parquet", columns=["image"])["image"].take(items).to_pylist()
    pictures = _pictures(dataset, items, height)
    return {
        item: Tile(title, pictures.get(item, ""), state, zlib.crc32(title.encode()) % 360)
        for item, title, state in zip(items, titles_of(dataset, items), states, strict=True)
    }


def titles_of(dataset: Path, items: Sequence[int]) -> list[str]:
    """What stands for each of some items: its title, or its id where it has none."""
    table = pq.read_table(dataset / "items.parquet", columns=["item_id", "title"]).take(items)
    return [clean(row["title"]) or clean(row["item_id"]) for row in table.to_pylist()]


def _pictures(dataset: Path, items: Sequence[int], height: int) -> dict[int, str]:
    pictures, spent = {}, 0
    for item, image in read_image_bytes(dataset, items).items():
        uri = thumbnail(image, height)
        spent += len(uri)
        if spent > BUDGET:
            break
        pictures[item] = uri
    return pictures


def thumbnail(image: bytes, height: int = HEIGHT) -> str:
    """A picture of at most two thirds of a height, by that height, as a `data:` URI."""
    with Image.open(io.BytesIO(image)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((2 * height // 3, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
