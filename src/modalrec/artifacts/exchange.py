"""Codes and vectors in the files that others write and read: `index.json`, `.npy` with an id file, parquet.

Here are the files alone; which items they are about is checked by `modalrec.stages.exchange`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import UNREADABLE
from modalrec.errors import DataError, Problems

# R rows of a file, L codes of a semantic ID, D length of a vector.

TOKEN = re.compile(r"<([a-z]+)_(\d{1,9})>")
VECTORS = "embedding"
METADATA = b"modalrec"
"""In parquet: the codes of each level, which the codes alone do not tell."""
MEND = "Write the file again"


class Rows(NamedTuple):
    """What a file holds.

    Attributes:
        keys: [R] names of the rows, or None where the file has none.
        values: [R, L] codes or [R, D] vectors; a memory map where that is possible.
        present: [R] whether the row really has a vector, or None where all have.
        sizes: [L] codes of each level, position last, where the file tells.
    """

    keys: list[str] | None
    values: NDArray[Any]
    present: NDArray[np.bool_] | None = None
    sizes: tuple[int, ...] | None = None


def read_code_file(path: Path, ids: Path | None = None) -> Rows:
    """Reads codes [R, L], int32.

    Args:
        path: `.json` of the form `{"item": ["<a_12>", "<b_3>", ...]}` or `{"item": [12, 3, ...]}`; `.npy` [R, L] of
            integers; or `.parquet` with the columns `item_id` and `semantic_id`.
        ids: The rows' names, for `.npy`.

    Raises:
        DataError: The file is of no such form; all its problems in one error.
    """
    rows = _read(path, ids, "semantic_id", _read_index)
    if not np.issubdtype(rows.values.dtype, np.integer):
        raise DataError(f"{path}: holds {rows.values.dtype} where codes are whole numbers. {MEND}")
    if rows.values.size and not 0 <= rows.values.min() <= rows.values.max() < 2**31 - 1:
        raise DataError(f"{path}: codes reach from {rows.values.min()} to {rows.values.max()}; they begin at 0. {MEND}")
    return rows._replace(values=rows.values.astype(np.int32))


def read_vector_file(path: Path, ids: Path | None = None, column: str = VECTORS) -> Rows:
    """Reads vectors [R, D] of float16, float32 or float64.

    Args:
        path: `.npy` [R, D], or `.parquet` with the columns `item_id`, that of the vectors, and perhaps `present`.
        ids: The rows' names, for `.npy`.
        column: The column of the vectors, such as `txt_emb_GPT` of MMCTR's `item_feature_gpt.parquet`.

    Raises:
        DataError: The file is of no such form.
    """
    rows = _read(path, ids, column, None)
    if not np.issubdtype(rows.values.dtype, np.floating) or rows.values.dtype.itemsize > 8:
        raise DataError(f"{path}: holds {rows.values.dtype}; vectors are float16, float32 or float64. {MEND}")
    return rows


def read_ids(path: Path) -> list[str]:
    """The names of rows: one a line, a JSON list of texts or whole numbers (`.json`), or `item_id` of a table.

    The table (`.parquet`) is for files whose rows follow one, as those of MMCTR's `gpt_embedding.npy` follow
    `item_feature.parquet`.

    Raises:
        DataError: The file is of no such form, or a name is empty.
    """
    if path.suffix == ".parquet":
        return read_item_table(path).column("item_id").cast(pa.string()).to_pylist()
    text = _text(path)
    if path.suffix == ".json":
        found = _json(path, text)
        if not isinstance(found, list) or not all(_is_id(one) for one in found):
            raise DataError(f"{path}: is no JSON list of ids. {MEND}")
        names = [str(one) for one in found]
    else:
        names = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    problems = Problems(path)
    problems.extend([f"row {row + 1}" for row, name in enumerate(names) if not name.strip()], "is empty")
    problems.raise_if_any("Give every row its id")
    return names


def read_item_table(path: Path) -> pa.Table:
    """Reads a table of items, with all its columns.

    Raises:
        DataError: It is no parquet, has no column `item_id`, or that is not filled with texts or whole numbers.
    """
    try:
        table = pq.read_table(path)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read ({error}). {MEND}") from None
    if "item_id" not in table.column_names:
        raise DataError(f"{path}: no column item_id; it has {', '.join(table.column_names)}. {MEND}")
    ids = table["item_id"]
    texts = pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type)
    if ids.null_count or not (texts or pa.types.is_integer(ids.type)):
        raise DataError(f"{path}: item_id is {ids.type} with {ids.null_count} empty cells; it holds names. {MEND}")
    return table


def read_numbers(path: Path) -> dict[str, str]:
    """The item id of every number, from lines of id and number with a tab or blank between, as `NAME.item2id` has them.

    Raises:
        DataError: A line is of another form, or a number stands twice; all of them in one error.
    """
    found: dict[str, str] = {}
    problems = Problems(path)
    for line, text in enumerate(_text(path).splitlines(), 1):
        item, _, number = text.replace("\t", " ").strip().rpartition(" ")
        if not item or not number.isdecimal():
            problems.add(f"line {line}", f"{text[:40]!r} is not an id and a number")
        elif found.setdefault(str(int(number)), item.strip()) != item.strip():
            problems.add(f"line {line}", f"number {number} is item {found[str(int(number))]!r} already")
    problems.raise_if_any("Write an item's id, a tab and its number on each line")
    return found


def level_name(level: int) -> str:
    """What the published form calls a level: a, b, ... z, aa, ab, ...

    Example:
        >>> [level_name(level) for level in (0, 25, 26, 53)]
        ['a', 'z', 'aa', 'bb']
    """
    name = ""
    level += 1
    while level:
        level, letter = divmod(level - 1, 26)
        name = chr(97 + letter) + name
    return name


def write_index(path: Path, item_ids: Sequence[str], codes_NL: NDArray[np.int32]) -> None:
    """Writes the published form, in the order of the items."""
    names = [level_name(level) for level in range(codes_NL.shape[1])]
    rows = {
        item: [f"<{name}_{code}>" for name, code in zip(names, codes, strict=True)]
        for item, codes in zip(item_ids, codes_NL.tolist(), strict=True)
    }
    path.write_text(json.dumps(rows), encoding="utf-8")


def write_ids(path: Path, item_ids: Sequence[str]) -> None:
    """Writes the names of rows, see `read_ids`.

    Raises:
        DataError: A name holds a line break, and the file has one name a line.
    """
    if path.suffix == ".json":
        path.write_text(json.dumps(list(item_ids)), encoding="utf-8")
        return
    if any(item.splitlines() != [item] for item in item_ids):
        raise DataError(f"{path}: an item's id holds a line break; give a file that ends in .json")
    path.write_text("".join(f"{item}\n" for item in item_ids), encoding="utf-8")


def _read(path: Path, ids: Path | None, column: str, index: Any) -> Rows:
    readers = {".npy": _read_npy, ".parquet": _read_parquet} | ({".json": index} if index else {})
    if path.suffix not in readers:
        raise DataError(f"{path}: is none of {', '.join(sorted(readers))}; convert it to one of them")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    rows: Rows = readers[path.suffix](path, column)
    if ids is not None:
        if rows.keys is not None:
            raise DataError(f"{path}: names its rows itself; leave the id file {ids} out")
        rows = rows._replace(keys=read_ids(ids))
        if len(rows.keys or ()) != len(rows.values):
            raise DataError(f"{path}: has {len(rows.values):,} rows, {ids} has {len(rows.keys or ()):,} ids")
    if not rows.values.size:
        raise DataError(f"{path}: holds nothing. {MEND}")
    return rows


def _read_index(path: Path, column: str) -> Rows:
    pairs = _json(path, _text(path), object_pairs_hook=lambda pairs: [tuple(pair) for pair in pairs])
    if not isinstance(pairs, list) or not pairs or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(f'{path}: is not of the form {{"item": ["<a_12>", "<b_3>", ...]}}. {MEND}')
    problems = Problems(path)
    levels = len(pairs[0][1]) if isinstance(pairs[0][1], list) else 0
    rows = []
    for key, tokens in pairs:
        codes = [_code(token, level) for level, token in enumerate(tokens)] if isinstance(tokens, list) else []
        if len(codes) != levels or not levels:
            problems.add(f"item {key!r}", f"has {len(codes)} codes, the first item has {levels}")
        elif None in codes:
            place = codes.index(None)
            problems.add(f"item {key!r}", f"{tokens[place]!r:.40} is no code of level {level_name(place)}")
        else:
            rows.append(codes)
    problems.raise_if_any(MEND)
    return Rows([key for key, _ in pairs], np.array(rows, np.int64))


def _code(token: Any, level: int) -> int | None:
    if isinstance(token, int) and not isinstance(token, bool):
        return token if 0 <= token < 2**31 - 1 else None
    found = TOKEN.fullmatch(token) if isinstance(token, str) else None
    return int(found[2]) if found and found[1] == level_name(level) else None


def _read_npy(path: Path, column: str) -> Rows:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is no array of numbers ({error}). {MEND}") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        raise DataError(f"{path}: has the shape {getattr(values, 'shape', '?')}, expected two dimensions. {MEND}")
    return Rows(None, values)


def _read_parquet(path: Path, column: str) -> Rows:
    table = read_item_table(path)
    if column not in table.column_names:
        raise DataError(
            f"{path}: no column {column}; it has {', '.join(table.column_names)}. {MEND}, or name another column"
        )
    lists = table[column].combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    kind = lists.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise DataError(f"{path}: {column} is {kind}, not lists of numbers. {MEND}")
    flat = lists.flatten()
    width = len(flat) // max(len(lists), 1)
    lengths = {len(one) for one in lists} if not pa.types.is_fixed_size_list(kind) else {width}
    if lists.null_count or flat.null_count or lengths != {width}:
        raise DataError(f"{path}: {column} has empty cells, or lists of several lengths. {MEND}")
    try:
        keys = table["item_id"].cast(pa.string()).to_pylist()
        values = flat.to_numpy(zero_copy_only=False).reshape(len(lists), width)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: {error}. {MEND}") from None
    present = table["present"].to_numpy() if "present" in table.column_names else None
    return Rows(keys, values, present, _sizes(path, table.schema.metadata or {}, width))


def _sizes(path: Path, metadata: dict[bytes, bytes], levels: int) -> tuple[int, ...] | None:
    if METADATA not in metadata:
        return None
    try:
        sizes = tuple(int(size) for size in json.loads(metadata[METADATA])["codebook_sizes"])
    except (ValueError, KeyError, TypeError):
        sizes = ()
    if len(sizes) != levels or min(sizes) < 1:
        raise DataError(f"{path}: its metadata names no codebook_sizes of the {levels} levels. {MEND}")
    return sizes


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from None


def _json(path: Path, text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, **hooks)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}). {MEND}") from None
