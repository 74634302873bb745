"""Published lists of vectors, such as MP4SR's `desc_emb.pkl` and `image_emb_15.pkl`, become an Embeddings artifact."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.embedding_lists import ListsWriter
from modalrec.artifacts.embeddings import ROWS
from modalrec.artifacts.exchange import Rows
from modalrec.data.pickles import read_vector_lists
from modalrec.errors import ConfigError, Problems
from modalrec.run import Run
from modalrec.stages._exchange_checks import EmbeddingsConfig, match, sources

# N items of the dataset, n vectors of an item, D length of a vector.

PICKLED = (".pkl", ".pickle")


def import_lists(
    file: Path, dataset: Path, embeddings: Path, *, config: EmbeddingsConfig, run: Run, ids: Path | None,
    numbers: Path | None,
) -> dict[str, float]:  # fmt: skip
    """Makes an Embeddings artifact in list form of a pickle, see `modalrec.data.pickles.read_vector_lists`.

    The arguments are those of `modalrec.stages.exchange.import_embeddings`.

    Returns:
        items, present, missing, vectors and dimension.

    Raises:
        ConfigError: Pickles are not allowed, or an id file is given.
        DataError: The file is no such pickle; or items lack a row, are unknown or given twice, or vectors are not
            finite or of another length than the first: all in one.
    """
    if not config.allow_pickle:
        raise ConfigError(f"{file}: is a pickle; give --allow-pickle to read it as data alone, nothing in it is run")
    if ids is not None:
        raise ConfigError(f"--ids {ids}: {file.name} names its rows itself; leave it out")
    manifest, found = read_manifest(dataset, "dataset"), list(read_vector_lists(file))
    problems = Problems(file)
    length = config.dimension or next((vectors.shape[1] for _, vectors in found if len(vectors)), 1)
    for item, vectors_nD in found:
        if len(vectors_nD) and vectors_nD.shape[1:] != (length,):
            problems.add(f"item {item!r}", f"has vectors of length {vectors_nD.shape[1]}, expected {length}")
        elif not np.isfinite(vectors_nD.astype(np.float32)).all():
            problems.add(f"item {item!r}", "has a vector that is not finite in float32")
    problems.raise_if_any("Make these vectors again, or leave them out and give --missing zero")
    present = np.array([len(vectors_nD) > 0 for _, vectors_nD in found])
    rows = Rows([item for item, _ in found], np.zeros((len(found), 1), np.float32), present)
    item_ids, places_N, dropped = match(file, rows, dataset, config, numbers, config.missing)
    nothing = np.zeros((0, length), np.float32)
    lists = [found[place][1] if place >= 0 else nothing for place in places_N]
    counts_N = np.array([len(vectors_nD) for vectors_nD in lists], np.int64)
    with write_artifact(
        embeddings, "embeddings", stage="import", config=config, seed=run.seed, inputs={"dataset": manifest}
    ) as work:
        with ListsWriter(work.folder, length) as writer:
            for begin in range(0, len(lists), ROWS // 8):
                some = slice(begin, begin + ROWS // 8)
                vectors: NDArray[np.float32] = np.concatenate(lists[some]).astype(np.float32)
                writer.write(item_ids[some], counts_N[some], vectors)
        metrics = {"items": len(lists), "present": int((counts_N > 0).sum()), "missing": int((counts_N == 0).sum())}
        metrics |= {"vectors": int(counts_N.sum()), "dimension": length, "rows_dropped": dropped}
        work.statistics |= {**metrics, **sources(file, numbers)}
    return {name: float(value) for name, value in metrics.items()}
