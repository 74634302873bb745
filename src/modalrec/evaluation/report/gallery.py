"""The gallery: some users' histories as pictures, then what the model recommends, with the hit marked."""

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from modalrec.data.images import read_image_bytes
from modalrec.data.sequences import Sequences
from modalrec.evaluation.report.text import clean
from modalrec.evaluation.results import Result
from modalrec.run import Run

HISTORY, LIST = 8, 10
WIDTH, HEIGHT, QUALITY = 96, 144, 68
BUDGET = 1_800_000
"""Bytes of pictures in a report; what comes after is shown as a labelled tile."""


@dataclass(frozen=True)
class Tile:
    """An item: its picture as a `data:` URI, or none, then the title stands on a colour.

    Attributes:
        state: given, drawn or none, as in `items.parquet`.
        hue: Of the tile without a picture.
        target: Whether it is the user's held-out item.
    """

    title: str
    picture: str
    state: str
    hue: int
    target: bool = False


@dataclass(frozen=True)
class Shown:
    """One user of the gallery."""

    user: str
    events: int
    history: list[Tile]
    recommended: list[Tile]
    missed: Tile | None
    place: str


@dataclass(frozen=True)
class Gallery:
    """Users, how they were chosen, whether a card is drawn, and what a user is called."""

    users: list[Shown]
    note: str
    drawn: bool
    person: str = "User"


def gallery(dataset: Path, result: Result, sequences: Sequences, n_users: int, run: Run) -> Gallery | None:
    """Draws targets at random, half of them with a hit among the first ten; None where there is nothing to show.

    Args:
        dataset: Titles and pictures.
        result: The row to show.
        sequences: What its histories are read from.
        n_users: Targets to show.
        run: The stage's run.
    """
    ranking = result.ranking
    ranks = ranking.ranks(result.ties)
    people = f"{result.people}' targets" if result.several else result.people
    rows, note = _choose(ranks <= LIST, n_users, people, run)
    if not len(rows):
        return None
    histories, lists = [], []
    for row in rows:
        begin = sequences.offsets[ranking.users[row]]
        histories.append(sequences.items[begin : begin + ranking.positions[row]])
        lists.append([item for item in ranking.top.items[row, :LIST].tolist() if item >= 0])
    shown = {
        item
        for row, history, items in zip(rows, histories, lists, strict=True)
        for item in [*history[-HISTORY:].tolist(), *items, int(ranking.targets[row])]
    }
    tiles = _tiles(dataset, sorted(shown))
    names = pq.read_table(dataset / "users.parquet", columns=["user_id"])["user_id"]
    users = []
    for row, history, items in zip(rows, histories, lists, strict=True):
        target = int(ranking.targets[row])
        users.append(
            Shown(
                clean(str(names[int(ranking.users[row])]), 40),
                len(history),
                [tiles[item] for item in history[-HISTORY:].tolist()],
                [_marked(tiles[item], item == target) for item in items],
                None if target in items else _marked(tiles[target], True),
                _place(ranks[row], result),
            )
        )
    drawn = any(tile.state == "drawn" for tile in tiles.values())
    return Gallery(users, note, drawn, result.people.removesuffix("s").capitalize())


def _choose(hit: NDArray[np.bool_], n_users: int, people: str, run: Run) -> tuple[NDArray[np.int64], str]:
    rng = run.rng("gallery")
    hits, misses = (rng.permutation(np.flatnonzero(flags)) for flags in (hit, ~hit))
    n_hits = min(len(hits), max((n_users + 1) // 2, n_users - len(misses)))
    hits, misses = hits[:n_hits], misses[: n_users - n_hits]
    share = 100 * hit.mean() if len(hit) else 0.0
    note = (
        f"Chosen at random: {len(hits)} of the {people} whose held-out item is among the first {LIST}, and "
        f"{len(misses)} of the others. Over all {people} {share:.1f} % have a hit."
    )
    # Hits and misses take turns, so that neither looks like the rule.
    turns = [row for pair in zip(hits, misses, strict=False) for row in pair]
    short = min(len(hits), len(misses))
    return np.array([*turns, *hits[short:], *misses[short:]], np.int64), note


def _place(rank: float, result: Result) -> str:
    """Lists know no rank beyond their end; scores know every rank."""
    if rank <= result.ranking.n_items:
        return f"held-out item at place {int(rank):,}"
    return f"held-out item not among the first {result.ranking.top.items.shape[1]}"


def _marked(tile: Tile, target: bool) -> Tile:
    return Tile(tile.title, tile.picture, tile.state, tile.hue, target)


def _tiles(dataset: Path, items: list[int]) -> dict[int, Tile]:
    table = pq.read_table(dataset / "items.parquet", columns=["item_id", "title", "image"]).take(items)
    rows = zip(items, table.to_pylist(), strict=True)
    pictures = _pictures(dataset, items)
    tiles = {}
    for item, row in rows:
        title = clean(row["title"]) or clean(row["item_id"])
        tiles[item] = Tile(title, pictures.get(item, ""), row["image"], zlib.crc32(title.encode()) % 360)
    return tiles


def _pictures(dataset: Path, items: Sequence[int]) -> dict[int, str]:
    pictures, spent = {}, 0
    for item, image in read_image_bytes(dataset, items).items():
        uri = thumbnail(image)
        spent += len(uri)
        if spent > BUDGET:
            break
        pictures[item] = uri
    return pictures


def thumbnail(image: bytes) -> str:
    """A picture of at most 96 x 144 as a `data:` URI."""
    with Image.open(io.BytesIO(image)) as picture:
        small = picture.convert("RGB")
        small.thumbnail((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
