"""Ready-made codes and embeddings become artifacts of a dataset, and artifacts become files for others."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.codes import QUANTIZER, read_codes, write_codes
from modalrec.artifacts.embeddings import ROWS, EmbeddingsReader, EmbeddingsWriter, load
from modalrec.artifacts.exchange import (
    METADATA,
    VECTORS,
    read_code_file,
    read_item_table,
    read_vector_file,
    write_ids,
    write_index,
)
from modalrec.artifacts.files import write_json
from modalrec.artifacts.schemas import codes as code_schema
from modalrec.artifacts.schemas import embeddings as vector_schema
from modalrec.data.semantic_ids import with_positions
from modalrec.errors import ArtifactError, ConfigError, DataError, Problems
from modalrec.evaluation.codes import colliding, level_usage
from modalrec.run import Run
from modalrec.stages._exchange_checks import CodesConfig, EmbeddingsConfig, code_sizes, match, refuse_equal, sources
from modalrec.stages._exchange_lists import PICKLED, import_lists

__all__ = [
    "CodesConfig",
    "EmbeddingsConfig",
    "export_codes",
    "export_embeddings",
    "import_codes",
    "import_embeddings",
]

# N items of the dataset, L levels of codes, D length of the vectors.

STAGE = "import"


def import_codes(
    file: Path, dataset: Path, codes: Path, *, config: CodesConfig, run: Run, ids: Path | None = None,
    numbers: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Makes a Codes artifact of a file, see `modalrec.artifacts.exchange.read_code_file`.

    Args:
        file: The codes.
        dataset: Whose items they are of.
        codes: Where to write them.
        config: How rows are matched.
        run: Seed and messages.
        ids: The rows' ids, for `.npy`.
        numbers: Lines of item id and number, where the rows are named by numbers of their own.

    Returns:
        items, levels, collisions, distinct and the largest group before positions tell its items apart, usage and
        perplexity of each level.

    Raises:
        DataError: Rows are missing, of unknown items or given twice, or codes lie outside their level: all in one.
    """
    manifest = read_manifest(dataset, "dataset")
    rows = read_code_file(file, ids)
    item_ids, places_N, dropped = match(file, rows, dataset, config, numbers, "error")
    codes_NL = rows.values[places_N]
    positions = config.positions or rows.sizes is not None
    sizes = code_sizes(file, codes_NL, rows.sizes, config, item_ids, positions)
    if positions:
        codes_NL, semantic_ids = codes_NL[:, :-1], codes_NL
        refuse_equal(file, semantic_ids, item_ids)
    else:
        semantic_ids = with_positions(codes_NL, np.zeros(len(codes_NL), np.float32))
        sizes = (*sizes, int(semantic_ids[:, -1].max()) + 1)
    with write_artifact(
        codes, "codes", stage=STAGE, config=config, seed=run.seed, inputs={"dataset": manifest}
    ) as work:
        write_codes(work.folder, item_ids, semantic_ids)
        write_json(work.folder / QUANTIZER, {"quantizer": None, "codebook_sizes": list(sizes)})
        collisions = colliding(codes_NL)
        metrics = {"items": len(item_ids), "levels": codes_NL.shape[1], "rows_dropped": dropped}
        metrics |= {"collisions": collisions, "distinct": len(item_ids) - collisions, "largest_group": sizes[-1]}
        shares: dict[str, float] = {}
        for level, usage in enumerate(level_usage(codes_NL, sizes[:-1]), start=1):
            shares[f"level_{level}_usage"] = usage.used / len(usage.counts)
            shares[f"level_{level}_perplexity"] = usage.perplexity
        work.statistics |= {**metrics, **shares, "codebook_sizes": list(sizes), **sources(file, ids, numbers)}
    return {**{name: float(value) for name, value in metrics.items()}, **shares}


def import_embeddings(
    file: Path, dataset: Path, embeddings: Path, *, config: EmbeddingsConfig, run: Run, ids: Path | None = None,
    numbers: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Makes an Embeddings artifact of a file, see `modalrec.artifacts.exchange.read_vector_file`.

    Of a pickle of lists of vectors, with `allow_pickle`, it is made in list form; see `_exchange_lists`.

    Args:
        file: The vectors.
        dataset: Whose items they are of.
        embeddings: Where to write them.
        config: How rows are matched.
        run: Seed and messages.
        ids: The rows' ids, for `.npy`.
        numbers: Lines of item id and number, where the rows are named by numbers of their own.

    Returns:
        items, present, missing, zero_vectors and dimension.

    Raises:
        DataError: Rows are missing, of unknown items or given twice, or vectors are not finite: all in one.
    """
    if file.suffix in PICKLED:
        return import_lists(file, dataset, embeddings, config=config, run=run, ids=ids, numbers=numbers)
    manifest = read_manifest(dataset, "dataset")
    rows = read_vector_file(file, ids, config.column)
    dimension = rows.values.shape[1]
    if config.dimension not in (None, dimension):
        raise DataError(f"{file}: vectors of length {dimension}, expected {config.dimension}")
    item_ids, places_N, dropped = match(file, rows, dataset, config, numbers, config.missing)
    names = np.array(item_ids, object)
    problems = Problems(file)
    zero = 0
    with write_artifact(
        embeddings, "embeddings", stage=STAGE, config=config, seed=run.seed, inputs={"dataset": manifest}
    ) as work:
        with EmbeddingsWriter(work.folder, dimension) as writer, run.progress("items", len(item_ids)) as progress:
            for begin in range(0, len(item_ids), ROWS):
                places = places_N[begin : begin + ROWS]
                vectors = np.zeros((len(places), dimension), np.float32)
                with np.errstate(over="ignore"):  # what is beyond float32 is not finite then, and named below
                    vectors[places >= 0] = rows.values[places[places >= 0]]
                finite = np.isfinite(vectors).all(axis=1)
                bad = names[begin : begin + ROWS][~finite]
                problems.extend([f"item {item!r}" for item in bad], "has a vector that is not finite in float32")
                zero += int((~vectors.any(axis=1) & (places >= 0)).sum())
                writer.write(names[begin : begin + ROWS], places >= 0, vectors)
                progress.advance(len(places))
        problems.raise_if_any("Make these vectors again, or leave them out and give --missing zero")
        present = int((places_N >= 0).sum())
        metrics = {"items": len(item_ids), "present": present, "missing": len(item_ids) - present}
        metrics |= {"zero_vectors": zero, "dimension": dimension, "rows_dropped": dropped}
        work.statistics |= {**metrics, "dtype": str(rows.values.dtype), **sources(file, ids, numbers)}
    return {name: float(value) for name, value in metrics.items()}


def export_codes(codes: Path, file: Path, *, positions: bool = True, ids: Path | None = None) -> None:
    """Writes the codes of an artifact as `.json` (the published form), `.npy` with an id file, or `.parquet`.

    Args:
        codes: The artifact.
        file: The file, which must not exist.
        positions: Write the collision position as last level, so that no two items are alike.
        ids: The file of the rows' ids, for `.npy`.

    Raises:
        ArtifactError: The artifact is damaged, or a file exists.
        ConfigError: The file is of no known form.
    """
    read_manifest(codes, "codes")
    item_ids, codes_NL, sizes = read_codes(codes)
    if not positions:
        codes_NL, sizes = codes_NL[:, :-1], sizes[:-1]
    with _target(file, ids, (".json", ".npy", ".parquet")) as (path, id_path):
        if file.suffix == ".json":
            write_index(path, item_ids, codes_NL)
        elif file.suffix == ".npy":
            _save(path, codes_NL)
            write_ids(id_path, item_ids)
        else:
            flat = pa.FixedSizeListArray.from_arrays(pa.array(codes_NL.reshape(-1)), codes_NL.shape[1])
            schema = code_schema(codes_NL.shape[1])
            if positions:
                schema = schema.with_metadata({METADATA: json.dumps({"codebook_sizes": list(sizes)})})
            pq.write_table(pa.Table.from_arrays([pa.array(item_ids, pa.string()), flat], schema=schema), path)


def export_embeddings(
    embeddings: Path, file: Path, *, dtype: str = "float32", ids: Path | None = None, like: Path | None = None,
    column: str = VECTORS, missing: str = "error",
) -> None:  # fmt: skip
    """Writes the vectors of an artifact as `.npy` with an id file, or `.parquet`.

    Items without a vector are left out of `.npy`; give `--missing zero` to import it again. Where the rows are to
    follow a table, `.npy` has no id file, and `.parquet` is that table with one more column: MMCTR's
    `gpt_embedding.npy` and `item_feature_gpt.parquet` follow `item_feature.parquet`.

    Args:
        embeddings: The artifact.
        file: The file, which must not exist.
        dtype: float32 or float16.
        ids: The file of the rows' ids, for `.npy`; by default the name of the file with `.ids.json` behind.
        like: A table of items (`.parquet` with a column `item_id`) whose rows the vectors follow.
        column: What the column of the vectors is called in such a table.
        missing: Items of such a table without a vector: `error`, or `zero`.

    Raises:
        ArtifactError: The artifact is damaged, or a file exists.
        ConfigError: The file or number is of no known form.
        DataError: A value is too large for float16, or the table has items without a vector.
    """
    if dtype not in ("float16", "float32"):
        raise ConfigError(f"dtype: {dtype!r} is neither float16 nor float32")
    read_manifest(embeddings, "embeddings")
    names, present, vectors_ND = load(embeddings)
    with np.errstate(over="ignore"):
        written = vectors_ND.astype(dtype)
    if not np.isfinite(written).all():
        row = int(np.argmin(np.isfinite(written).all(axis=1)))
        raise DataError(f"{embeddings}: item {names[row]!r} has a value beyond float16; export as float32")
    if like is not None:
        table = read_item_table(like)
        rows_RD = _in_rows_of(like, table, embeddings, names[present], written[present], missing)
        with _target(file, ids, (".npy", ".parquet"), named=False) as (path, _):
            if file.suffix == ".npy":
                return _save(path, rows_RD)
            if column in table.column_names:
                raise DataError(f"{like}: has a column {column} already; give another --column")
            lists = pa.FixedSizeListArray.from_arrays(pa.array(rows_RD.ravel()), rows_RD.shape[1])
            return pq.write_table(table.append_column(column, lists.cast(pa.large_list(lists.type.value_type))), path)
    with _target(file, ids, (".npy", ".parquet")) as (path, id_path):
        if file.suffix == ".npy":
            _save(path, written[present])
            write_ids(id_path, names[present].tolist())
        else:
            schema = vector_schema(EmbeddingsReader(embeddings).dimension)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(written.reshape(-1)), written.shape[1])
            columns = [pa.array(names, pa.string()), pa.array(present), flat]
            pq.write_table(pa.Table.from_arrays(columns, names=schema.names), path, use_dictionary=False)


def _in_rows_of(
    like: Path, table: pa.Table, embeddings: Path, names: NDArray[np.object_], vectors_ND: NDArray[Any], missing: str
) -> NDArray[Any]:
    """The vectors of a table's items, in its order; zero where there is none and that is allowed."""
    place_of = {name: place for place, name in enumerate(names.tolist())}
    wanted = table["item_id"].cast(pa.string()).to_pylist()
    places_R = np.array([place_of.get(item, -1) for item in wanted], np.int64)
    absent = np.flatnonzero(places_R < 0)
    if len(absent) and missing != "zero":
        raise DataError(
            f"{like}: {len(absent):,} of its {len(wanted):,} items have no vector in {embeddings} (first: "
            f"{wanted[absent[0]]!r}); embed them, or give --missing zero"
        )
    rows_RD = np.zeros((len(wanted), vectors_ND.shape[1]), vectors_ND.dtype)
    rows_RD[places_R >= 0] = vectors_ND[places_R[places_R >= 0]]
    return rows_RD


@contextmanager
def _target(file: Path, ids: Path | None, suffixes: tuple[str, ...], named: bool = True) -> Iterator[tuple[Path, Path]]:
    """Yields places beside a file and its id file, which take their names when both are whole."""
    if file.suffix not in suffixes:
        raise ConfigError(f"{file}: ends in none of {', '.join(suffixes)}; name it so")
    if ids is not None and (file.suffix != ".npy" or not named):
        raise ConfigError(f"--ids {ids}: {file.name} names its rows itself; leave it out")
    id_file = ids or file.with_name(f"{file.name}.ids.json")
    final = [file, id_file] if file.suffix == ".npy" and named else [file]
    for path in final:
        if path.exists():
            raise ArtifactError(f"{path}: exists; remove it or name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
    building = [path.with_name(f".{path.stem}.part{path.suffix}") for path in (file, id_file)]
    try:
        yield building[0], building[1]
        for path, place in zip(building, final, strict=False):
            path.replace(place)
    finally:
        for path in building:
            path.unlink(missing_ok=True)


def _save(path: Path, values: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
