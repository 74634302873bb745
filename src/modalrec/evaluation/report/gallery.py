"""The gallery: some users' histories as pictures, then what the model recommends, with the hit marked."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.codes import SEMANTIC_ID, read_code_groups
from modalrec.data.sequences import Sequences
from modalrec.evaluation.report.text import clean
from modalrec.evaluation.report.tiles import Tile, tiles_of
from modalrec.evaluation.results import Result
from modalrec.run import Run

HISTORY, LIST = 8, 10


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


def gallery(
    dataset: Path, result: Result, sequences: Sequences, n_users: int, run: Run, codes: Path | None = None
) -> Gallery | None:
    """Draws targets at random, half of them with a hit among the first ten; None where there is nothing to show.

    Args:
        dataset: Titles and pictures.
        result: The row to show.
        sequences: What its histories are read from.
        n_users: Targets to show.
        run: The stage's run.
        codes: Semantic IDs, to tell which leading codes an item shares with the held-out one.
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
    tiles = tiles_of(dataset, sorted(shown))
    names = pq.read_table(dataset / "users.parquet", columns=["user_id"])["user_id"]
    shared = _shared(codes)
    users = []
    for row, history, items in zip(rows, histories, lists, strict=True):
        target = int(ranking.targets[row])
        users.append(
            Shown(
                clean(str(names[int(ranking.users[row])]), 40),
                len(history),
                [tiles[item] for item in history[-HISTORY:].tolist()],
                [replace(tiles[item], target=item == target, shared=shared(item, target)) for item in items],
                None if target in items else replace(tiles[target], target=True),
                _place(ranks[row], result),
            )
        )
    drawn = any(tile.state == "drawn" for tile in tiles.values())
    return Gallery(users, note, drawn, result.people.removesuffix("s").capitalize())


def _shared(codes: Path | None) -> Callable[[int, int], int]:
    """How many leading codes two items have in common; those of code groups have no order, so none leads."""
    groups = read_code_groups(codes)[1] if codes is not None else {}
    if SEMANTIC_ID not in groups:
        return lambda one, other: 0
    codes_NL = groups[SEMANTIC_ID].codes_NK
    return lambda one, other: int(np.cumprod(codes_NL[one] == codes_NL[other]).sum())


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
