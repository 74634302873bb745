"""Codes as files: `codes.parquet`, with the codebook sizes in `quantizer.json` beside it.

They have one of two forms. Semantic IDs are one tuple of codes an item, the last of them a position that no two items
share. Code groups are several tuples an item, each under the name of what it codes, such as a modality; they are
features of items, and two items may have the same.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.files import write_json
from modalrec.artifacts.schemas import code_groups, codes, read_table
from modalrec.errors import ArtifactError

# N items, L codes of a semantic ID, the collision position last, K codes of a group.

NAME = "codes.parquet"
QUANTIZER = "quantizer.json"
SEMANTIC_ID = "semantic_id"


class CodeGroup(NamedTuple):
    """The codes of one name.

    Attributes:
        codes_NK: [N, K] codes, int32.
        sizes: [K] codes to choose from at each place.
        shared: Whether a code means the same at every place, since all are of one codebook.
    """

    codes_NK: NDArray[np.int32]
    sizes: tuple[int, ...]
    shared: bool = False


def write_codes(folder: Path, item_ids: Sequence[str] | NDArray[np.object_], codes_NL: NDArray[np.int32]) -> None:
    """Writes semantic IDs as `codes.parquet`.

    Args:
        folder: The building place of the artifact.
        item_ids: [N] ids, in the dataset's order.
        codes_NL: Their semantic IDs, all different.
    """
    _write(folder, codes(codes_NL.shape[1]), item_ids, [codes_NL])


def write_code_groups(
    folder: Path, item_ids: Sequence[str] | NDArray[np.object_], groups: Mapping[str, CodeGroup]
) -> None:
    """Writes code groups as `codes.parquet` and `quantizer.json`, which tells their sizes.

    Args:
        folder: The building place of the artifact.
        item_ids: [N] ids, in the dataset's order.
        groups: From name to codes, in the order that readers see.
    """
    schema = code_groups({name: group.codes_NK.shape[1] for name, group in groups.items()})
    _write(folder, schema, item_ids, [group.codes_NK for group in groups.values()])
    described = [
        {"name": name, "codebook_sizes": list(group.sizes), "shared": group.shared} for name, group in groups.items()
    ]
    write_json(folder / QUANTIZER, {"groups": described})


def read_codes(folder: Path) -> tuple[list[str], NDArray[np.int32], tuple[int, ...]]:
    """Reads the semantic IDs of a Codes artifact.

    Returns:
        The item ids [N] in the dataset's order, the codes [N, L], and the codes per level [L], position last.

    Raises:
        ArtifactError: A file is missing or damaged, a code lies outside its codebook, or these are code groups.
    """
    described = _described(folder / QUANTIZER)
    if "groups" in described:
        names = ", ".join(name for name, _, _ in _groups(folder / QUANTIZER, described))
        raise ArtifactError(
            f"{folder}: holds the code groups {names}, which are features of items and no semantic IDs; run `quantize` "
            "with form=semantic_id"
        )
    sizes = _sizes(folder / QUANTIZER, described)
    table = read_table(folder / NAME, codes(len(sizes)))
    return table["item_id"].to_pylist(), _checked(folder / NAME, table, SEMANTIC_ID, sizes), sizes


def read_code_groups(folder: Path) -> tuple[list[str], dict[str, CodeGroup]]:
    """Reads the codes of a Codes artifact as features of items, by name.

    Semantic IDs are one group, `semantic_id`, without the position: it tells items apart and says nothing of them.

    Returns:
        The item ids [N] in the dataset's order, and the groups.

    Raises:
        ArtifactError: A file is missing or damaged, or a code lies outside its codebook.
    """
    path, described = folder / NAME, _described(folder / QUANTIZER)
    if "groups" not in described:
        item_ids, codes_NL, sizes = read_codes(folder)
        return item_ids, {SEMANTIC_ID: CodeGroup(np.ascontiguousarray(codes_NL[:, :-1]), sizes[:-1])}
    groups = _groups(folder / QUANTIZER, described)
    table = read_table(path, code_groups({name: len(sizes) for name, sizes, _ in groups}))
    found = {name: CodeGroup(_checked(path, table, name, sizes), sizes, shared) for name, sizes, shared in groups}
    return table["item_id"].to_pylist(), found


def _write(
    folder: Path, schema: pa.Schema, item_ids: Sequence[str] | NDArray[np.object_], columns: list[NDArray[np.int32]]
) -> None:
    lists = [
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column, np.int32).reshape(-1)), column.shape[1])
        for column in columns
    ]
    pq.write_table(pa.Table.from_arrays([pa.array(item_ids, pa.string()), *lists], schema=schema), folder / NAME)


def _checked(path: Path, table: pa.Table, column: str, sizes: tuple[int, ...]) -> NDArray[np.int32]:
    """The codes of a column, all inside their codebooks."""
    lists = table[column].combine_chunks()
    if lists.null_count or lists.flatten().null_count:
        raise ArtifactError(f"{path}: {column} has empty cells; run `quantize` again")
    codes_NK: NDArray[np.int32] = lists.flatten().to_numpy().reshape(-1, len(sizes))
    wrong_N = ((codes_NK < 0) | (codes_NK >= np.array(sizes))).any(axis=1)
    if wrong_N.any():
        row = int(np.argmax(wrong_N))
        raise ArtifactError(
            f"{path}: row {row} (item {table['item_id'][row].as_py()!r}) has the codes "
            f"{_short(codes_NK[row].tolist())}, the codebooks have {_short(list(sizes))}; run `quantize` again"
        )
    return codes_NK


def _short(numbers: list[int]) -> str:
    return str(numbers) if len(numbers) <= 16 else f"[{', '.join(map(str, numbers[:16]))}, ... {len(numbers)} in all]"


def _described(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: has no codebook_sizes ({error!r}); run `quantize` again") from None
    if not isinstance(described, dict):
        raise ArtifactError(f"{path}: has no codebook_sizes; run `quantize` again")
    return described


def _sizes(path: Path, described: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in described["codebook_sizes"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: has no codebook_sizes ({error!r}); run `quantize` again") from None
    if not sizes or min(sizes) < 1:
        raise ArtifactError(f"{path}: codebook_sizes is {list(sizes)}, not sizes of at least 1; run `quantize` again")
    return sizes


def _groups(path: Path, described: dict[str, Any]) -> list[tuple[str, tuple[int, ...], bool]]:
    """Name, sizes and whether the codes are of one codebook, of each group."""
    try:
        groups = [(str(group["name"]), _sizes(path, group), group["shared"] is True) for group in described["groups"]]
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: groups is not a list of named groups ({error!r}); run `quantize` again") from None
    if not groups or len({name for name, _, _ in groups}) < len(groups):
        raise ArtifactError(f"{path}: groups has no names, or one twice; run `quantize` again")
    return groups
