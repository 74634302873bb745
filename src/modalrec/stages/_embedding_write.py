"""What the embedding stages write: one vector an item, or a list of vectors."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from modalrec.artifacts.embedding_lists import ListsWriter
from modalrec.artifacts.embeddings import ROWS, EmbeddingsWriter

# N items, E contents of all items, V distinct contents, K words of a content, D length of the vectors.


class Found(NamedTuple):
    """The vectors of contents: row `places_E[e]` of `vectors_VD` is of item `rows_E[e]`, ascending."""

    item_ids: pa.ChunkedArray
    rows_E: NDArray[np.int32]
    places_E: NDArray[np.int64]
    vectors_VD: NDArray[np.float32]


def write_vectors(folder: Path, found: Found) -> None:
    """Writes one vector an item, a zero where it has no content."""
    places_N = np.full(len(found.item_ids), -1, np.int64)
    places_N[found.rows_E] = found.places_E
    with EmbeddingsWriter(folder, found.vectors_VD.shape[1]) as writer:
        for start in range(0, len(places_N), ROWS):
            places, item_ids = places_N[start : start + ROWS], found.item_ids[start : start + ROWS]
            writer.write(item_ids.to_pylist(), places >= 0, found.vectors_VD[np.maximum(places, 0)])


def write_lists(folder: Path, found: Found, words: NDArray[np.float32] | None = None) -> int:
    """Writes the list of each item's vectors, in the order of its contents; gives their number.

    Args:
        folder: The building place of the artifact.
        found: The vectors; or, with `words`, their rows there, [V, K] for K of them a content.
        words: [W, D] vectors.
    """
    counts_N = np.bincount(found.rows_E, minlength=len(found.item_ids))
    offsets = np.concatenate([[0], np.cumsum(counts_N)])
    width = 1 if words is None else found.vectors_VD.shape[1]
    with ListsWriter(folder, (found.vectors_VD if words is None else words).shape[1]) as writer:
        for start in range(0, len(counts_N), ROWS // 8):
            end = min(start + ROWS // 8, len(counts_N))
            vectors = found.vectors_VD[found.places_E[offsets[start] : offsets[end]]]
            if words is not None:
                vectors = words[vectors.astype(np.int64).reshape(-1)]
            writer.write(found.item_ids[start:end].to_pylist(), counts_N[start:end] * width, vectors)
    return int(counts_N.sum()) * width
