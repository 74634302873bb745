"""Ready-made vectors in place of an encoder's, such as those that MicroLens' challenge gives of its pictures."""

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from modalrec import config as configs
from modalrec.artifacts import Stage
from modalrec.artifacts.exchange import VECTORS, read_vector_file
from modalrec.artifacts.store import localized
from modalrec.errors import Problems
from modalrec.stages._embedding_write import Found, write_vectors
from modalrec.stages._exchange_checks import EmbeddingsConfig, match, sources


class GivenConfig(configs.Config):
    """Where the vectors are.

    Attributes:
        file: `.parquet` with `item_id` and the vectors, or `.npy`; a path, or an s3:// URI, which a cluster needs.
            Other vectors need another name, for the cache.
        ids: What names the rows of `.npy`: one a line, a JSON list (`.json`), or the table that they follow
            (`.parquet`).
        column: Of `.parquet`, the column of the vectors.
        missing: What happens to items without a vector: `error`, or `zero`, as items without content have them.
    """

    file: str
    ids: str | None = None
    column: str = VECTORS
    missing: Literal["error", "zero"] = "error"


def write_given(artifact: Stage, given: GivenConfig, dataset: Path, bounds: tuple[int, int]) -> dict[str, float]:
    """Writes the vectors of a dataset's items within the bounds; rows of other items are left out.

    Returns:
        items, present, missing, dimension.

    Raises:
        DataError: The file is of no known form, rows are missing or there twice, or vectors are not finite.
    """
    with ExitStack() as stack:
        file = stack.enter_context(localized(given.file))
        ids = None if given.ids is None else stack.enter_context(localized(given.ids))
        rows = read_vector_file(file, ids, given.column)
        settings = EmbeddingsConfig(extra="drop", missing=given.missing)
        item_ids, places_N, _ = match(file, rows, dataset, settings, None, given.missing)
        told = sources(file, ids)
    item_ids, places_N = item_ids[slice(*bounds)], places_N[slice(*bounds)]
    present = np.flatnonzero(places_N >= 0)
    vectors_RD = rows.values.astype(np.float32)
    problems = Problems(file)
    wrong = present[~np.isfinite(vectors_RD[places_N[present]]).all(axis=1)]
    problems.extend([f"item {item_ids[place]!r}" for place in wrong], "has a vector that is not finite in float32")
    problems.raise_if_any("Make these vectors again, or leave them out and set given.missing=zero")
    write_vectors(
        artifact.folder, Found(pa.chunked_array([item_ids]), present.astype(np.int32), places_N[present], vectors_RD)
    )
    counts = {"items": len(item_ids), "present": len(present), "missing": len(item_ids) - len(present)}
    counts["dimension"] = vectors_RD.shape[1]
    artifact.statistics |= {**counts, "encoder": "given", **told}
    return {name: float(value) for name, value in counts.items()}
