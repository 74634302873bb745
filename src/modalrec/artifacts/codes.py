"""Semantic IDs as files: `codes.parquet`, with the codebook sizes in `quantizer.json` beside it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import codes, read_table
from modalrec.errors import ArtifactError

# N items, L codes of a semantic ID, the collision position last.

NAME = "codes.parquet"
QUANTIZER = "quantizer.json"


def write_codes(folder: Path, item_ids: Sequence[str] | NDArray[np.object_], codes_NL: NDArray[np.int32]) -> None:
    """Writes `codes.parquet`.

    Args:
        folder: The building place of the artifact.
        item_ids: [N] ids, in the dataset's order.
        codes_NL: Their semantic IDs, all different.
    """
    length = codes_NL.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(codes_NL.astype(np.int32).reshape(-1)), length)
    table = pa.Table.from_arrays([pa.array(item_ids, pa.string()), column], schema=codes(length))
    pq.write_table(table, folder / NAME)


def read_codes(folder: Path) -> tuple[list[str], NDArray[np.int32], tuple[int, ...]]:
    """Reads the semantic IDs of a Codes artifact.

    Returns:
        The item ids [N] in the dataset's order, the codes [N, L], and the codes per level [L], position last.

    Raises:
        ArtifactError: A file is missing or damaged, or a code lies outside its codebook.
    """
    sizes = _codebook_sizes(folder / QUANTIZER)
    table = read_table(folder / NAME, codes(len(sizes)))
    codes_NL = table["semantic_id"].combine_chunks().flatten().to_numpy().reshape(-1, len(sizes))
    wrong = ((codes_NL < 0) | (codes_NL >= np.array(sizes))).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ArtifactError(
            f"{folder / NAME}: row {row} (item {table['item_id'][row].as_py()!r}) has the codes "
            f"{codes_NL[row].tolist()}, the codebooks have {list(sizes)}; run `quantize` again"
        )
    return table["item_id"].to_pylist(), codes_NL, sizes


def _codebook_sizes(path: Path) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in json.loads(path.read_bytes())["codebook_sizes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: has no codebook_sizes ({error!r}); run `quantize` again") from None
    if not sizes or min(sizes) < 1:
        raise ArtifactError(f"{path}: codebook_sizes is {list(sizes)}, not sizes of at least 1; run `quantize` again")
    return sizes
