"""What `exchange` checks before it writes: whose rows a file has, and whether codes fit their levels."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from modalrec import config as configs
from modalrec.artifacts.exchange import VECTORS, Rows, read_numbers
from modalrec.artifacts.files import sha256_file
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.errors import ConfigError, DataError, Problems

# N items of the dataset, R rows of the file, L levels of codes.


class ImportConfig(configs.Config):
    """How the rows of a file are matched with a dataset's items.

    Attributes:
        keys: What names a row: `id`, the item's id; or `row`, its row in the dataset's items.parquet, from 0.
        extra: What happens to rows of items that the dataset does not have.
    """

    keys: Literal["id", "row"] = "id"
    extra: Literal["error", "drop"] = "error"


class CodesConfig(ImportConfig):
    """How codes are imported.

    Attributes:
        sizes: Codes of each level, or one number for all. By default one more than the largest code of any level: files
            do not say, and all levels of the published ones are of one size.
        positions: The last level is the collision position already; else it is appended.
    """

    sizes: tuple[int, ...] | None = None
    positions: bool = False


class EmbeddingsConfig(ImportConfig):
    """How vectors are imported.

    Attributes:
        missing: What happens to items without a vector: `error`, or `zero`, as items without a text have them.
        dimension: Length that the vectors must have; by default any.
        column: Of `.parquet`, the column that holds them.
        allow_pickle: Read a pickle of lists of vectors (`desc_emb.pkl`), as data alone: nothing in it is run.
    """

    missing: Literal["error", "zero"] = "error"
    dimension: int | None = Field(default=None, ge=1)
    column: str = VECTORS
    allow_pickle: bool = False


def match(
    file: Path, rows: Rows, dataset: Path, config: ImportConfig, numbers: Path | None, missing: str
) -> tuple[list[str], NDArray[np.int64], int]:
    """The item ids, each item's place in the file (-1 where it has no row), and the rows that are dropped.

    Raises:
        DataError: Rows are missing, unknown or given twice; all of them in one error.
    """
    item_ids: list[str] = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"])["item_id"].to_pylist()
    keys = rows.keys
    if keys is None and config.keys == "id" and numbers is None:
        raise DataError(
            f"{file}: nothing says which item a row is of; give --ids FILE, --numbers FILE, or --keys row where row i "
            "is item i of the dataset"
        )
    keys = [str(row) for row in range(len(rows.values))] if keys is None else keys
    place_of = {item: place for place, item in enumerate(item_ids)}
    if numbers is not None:
        known = read_numbers(numbers)
        place_of = {number: place_of[item] for number, item in known.items() if item in place_of}
    elif config.keys == "row":
        place_of = {str(place): place for place in range(len(item_ids))}
    problems = Problems(file)
    places_N = np.full(len(item_ids), -1, np.int64)
    named_N = np.zeros(len(item_ids), np.bool_)
    seen: set[str] = set()
    unknown = []
    for row, key in enumerate(keys):
        if key in seen:
            problems.add(f"row {row}", f"{key!r} stands there already")
        seen.add(key)
        place = place_of.get(key)
        if place is None:
            unknown.append((row, key))
            continue
        named_N[place] = True
        if rows.present is None or rows.present[row]:
            places_N[place] = row
    if config.extra == "error":
        for row, key in unknown:
            problems.add(f"row {row}", f"{key!r} is no item of {dataset}")
    lacking = [item_ids[place] for place in np.flatnonzero(~named_N)] if missing == "error" else []
    problems.extend([f"item {item!r} of the dataset" for item in lacking], "has no row")
    hint = "--missing zero allows items without, " if file.suffix != ".json" else ""
    if len(unknown) == len(keys):
        hint = "No row is of the dataset: are these numbers? See --keys and --numbers. " + hint
    problems.raise_if_any(
        f"{len(lacking):,} of {len(item_ids):,} items lack a row, {len(unknown):,} of {len(keys):,} rows are of other "
        f"items. {hint}--extra drop leaves rows of other items out"
    )
    if (places_N < 0).all():
        raise DataError(f"{file}: no row is of an item of {dataset}; are these numbers? See --keys and --numbers")
    return item_ids, places_N, len(unknown)


def code_sizes(
    file: Path,
    codes_NL: NDArray[np.int32],
    told: tuple[int, ...] | None,
    config: CodesConfig,
    item_ids: list[str],
    positions: bool,
) -> tuple[int, ...]:
    """Codes of each level that the file has."""
    if positions and codes_NL.shape[1] < 2:
        raise DataError(f"{file}: has one level, which cannot be the collision position too; leave --positions out")
    levels = codes_NL.shape[1] - positions
    end = (int(codes_NL[:, -1].max()) + 1,) if positions else ()
    sizes = config.sizes or (told[:-1] if told else (int(codes_NL[:, :levels].max()) + 1,))
    sizes = sizes * levels if len(sizes) == 1 else sizes
    if len(sizes) != levels or min(sizes) < 1:
        raise ConfigError(f"sizes: {list(sizes)} for {levels} levels; give one number, or one of at least 1 each")
    problems = Problems(file)
    for level, size in enumerate(sizes):
        for row in np.flatnonzero(codes_NL[:, level] >= size):
            code = codes_NL[row, level]
            problems.add(f"item {item_ids[row]!r}", f"code {code} of level {level + 1}, which has {size}")
    problems.raise_if_any("Raise --sizes, or leave it out")
    return (*sizes, *(told[-1:] if told and not config.sizes else end))


def refuse_equal(file: Path, semantic_ids: NDArray[np.int32], item_ids: list[str]) -> None:
    _, first, groups = np.unique(semantic_ids, axis=0, return_index=True, return_inverse=True)
    problems = Problems(file)
    for row in np.flatnonzero(first[groups.reshape(-1)] != np.arange(len(semantic_ids))):
        other = item_ids[int(first[groups.reshape(-1)[row]])]
        problems.add(f"item {item_ids[row]!r}", f"has the codes of {other!r}, also in the collision position")
    problems.raise_if_any("Leave --positions out: then positions are appended")


def sources(*files: Path | None) -> dict[str, Any]:
    """What a manifest says of the files that an artifact was made of."""
    given = [file for file in files if file is not None]
    return {"source_files": {file.name: {"bytes": file.stat().st_size, "sha256": sha256_file(file)} for file in given}}
