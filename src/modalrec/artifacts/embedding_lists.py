"""Embeddings with several vectors an item: the sentences of a text, the words that describe a picture.

In memory every distinct vector is there once, on disk, and an item is a list of row numbers: keywords come from one
vocabulary, so that fifteen words an item cost sixty bytes and not fifteen vectors.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.embeddings import NAME, ROWS, EmbeddingsReader
from modalrec.artifacts.schemas import embedding_lists, stream
from modalrec.errors import ArtifactError

# N items, E entries of all lists, V distinct vectors, D length of the vectors.


@dataclass(frozen=True)
class VectorLists:
    """A list of vectors for every item; an item without any has an empty one.

    Attributes:
        vectors_VD: The distinct vectors; a memory map where they were read from a file.
        members: [E] rows of `vectors_VD`, one item after the other.
        offsets: [N + 1]; item i owns `members[offsets[i]:offsets[i + 1]]`.
    """

    vectors_VD: NDArray[np.float32]
    members: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def left_out(cls, n_items: int, dimension: int) -> "VectorLists":
        """What a trained model that was loaded knows of vectors it needs no more: their length."""
        return cls(np.zeros((0, dimension), np.float32), np.zeros(0, np.int32), np.zeros(n_items + 1, np.int64))

    @classmethod
    def single(cls, vectors_ND: NDArray[np.float32], present_N: NDArray[np.bool_]) -> "VectorLists":
        """One vector an item, none where it is not present."""
        offsets = np.concatenate([[0], np.cumsum(present_N)]).astype(np.int64)
        return cls(vectors_ND, np.flatnonzero(present_N).astype(np.int32), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def dimension(self) -> int:
        """Length of the vectors, D."""
        return int(self.vectors_VD.shape[1])

    @property
    def counts(self) -> NDArray[np.int64]:
        """[N] vectors of each item."""
        return np.diff(self.offsets)

    def counts_of(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """[U] vectors of each of these items; costs these, where `counts` costs the catalogue."""
        return self.offsets[items + 1] - self.offsets[items]

    def of(self, items: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The rows of these items' vectors, one item after the other, and how many each item has."""
        counts = self.counts_of(items)
        firsts = self.offsets[items] - (np.cumsum(counts) - counts)
        return self.members[np.arange(counts.sum()) + np.repeat(firsts, counts)], counts

    def sums_of(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """[U, D] the sum of each of these items' vectors, of which few items' are in memory at a time."""
        sums_UD = np.zeros((len(items), self.dimension), np.float32)
        for begin in range(0, len(items), ROWS // 8):
            rows, counts = self.of(items[begin : begin + ROWS // 8])
            np.add.at(sums_UD, begin + np.repeat(np.arange(len(counts)), counts), self.vectors_VD[rows])
        return sums_UD

    def means(self) -> NDArray[np.float32]:
        """[N, D] the mean of each item's vectors, brought to length 1; zero where it has none."""
        means_ND = self.sums_of(np.arange(len(self)))
        lengths_N = np.linalg.norm(means_ND, axis=1, keepdims=True)
        return np.divide(means_ND, lengths_N, out=means_ND, where=lengths_N > 0)


class ListsWriter:
    """Writes `embeddings.parquet` with a list of vectors an item, batch by batch; use it in a `with`.

    Args:
        folder: The building place of the artifact.
        dimension: Length of the vectors, D.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self.dimension, self.schema = dimension, embedding_lists(dimension)
        # Words recur from item to item, which compression finds and dictionaries of lists do not exist for.
        self._writer = pq.ParquetWriter(folder / NAME, self.schema, compression="zstd", use_dictionary=False)

    def __enter__(self) -> "ListsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(
        self,
        item_ids: Sequence[str] | NDArray[np.object_],
        counts_N: NDArray[np.int64],
        vectors_ED: NDArray[np.float32],
    ) -> None:
        """Appends items; `vectors_ED` holds the first item's `counts_N[0]` vectors, then the second's.

        Raises:
            ValueError: The three do not fit each other, or the vectors are not of the length `dimension`.
        """
        if vectors_ED.shape != (counts_N.sum(), self.dimension) or len(counts_N) != len(item_ids):
            raise ValueError(f"{len(item_ids)} ids, {len(counts_N)} counts and vectors {vectors_ED.shape}")
        flat = pa.array(np.ascontiguousarray(vectors_ED, np.float32).reshape(-1))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts_N)]).astype(np.int32))
        columns = [
            pa.array(item_ids, pa.string()),
            pa.array(counts_N > 0, pa.bool_()),
            pa.ListArray.from_arrays(offsets, pa.FixedSizeListArray.from_arrays(flat, self.dimension)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), row_group_size=ROWS // 8)


def load_lists(folder: Path) -> tuple[NDArray[np.object_], VectorLists]:
    """Reads an Embeddings artifact of either form: the items' ids and their vectors.

    Distinct vectors wait in a file without a name, which goes when the last array over it does.

    Raises:
        ArtifactError: The file is missing or no parquet, has other columns, or a vector is not finite.
    """
    reader = EmbeddingsReader(folder, lists=True)
    item_ids, counts = np.empty(reader.n_items, object), np.zeros(reader.n_items, np.int64)
    known: dict[bytes, int] = {}
    members: list[NDArray[np.int32]] = []
    done = 0
    with tempfile.TemporaryFile() as store, pq.ParquetFile(reader.path) as file:
        for batch in stream(file, ROWS // 8):
            ids = batch.column("item_id").to_numpy(zero_copy_only=False)
            counts_N, vectors_ED = _entries(batch, reader.dimension)
            finite_E = np.isfinite(vectors_ED).all(axis=1)
            if not finite_E.all():
                item = ids[int(np.searchsorted(np.cumsum(counts_N), int(np.argmin(finite_E)), side="right"))]
                raise ArtifactError(
                    f"{reader.path}: item {item!r} has a vector that is not finite; run the stage that made it again"
                )
            rows = np.empty(len(vectors_ED), np.int32)
            for place, vector_D in enumerate(vectors_ED):
                content = vector_D.tobytes()
                digest = hashlib.blake2b(content, digest_size=16).digest()
                if digest not in known:
                    known[digest] = len(known)
                    store.write(content)
                rows[place] = known[digest]
            members.append(rows)
            item_ids[done : done + len(ids)], counts[done : done + len(ids)] = ids, counts_N
            done += len(ids)
        store.flush()
        shape = (len(known), reader.dimension)
        vectors_VD: Any = np.memmap(store, np.float32, "c", shape=shape) if known else np.zeros(shape, np.float32)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return item_ids, VectorLists(vectors_VD, np.concatenate([*members, np.zeros(0, np.int32)]), offsets)


def _entries(batch: pa.RecordBatch, dimension: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Of a batch of either form, how many vectors each item has, and the vectors."""
    column, present = batch.column("embedding"), batch.column("present").to_numpy(zero_copy_only=False)
    if pa.types.is_list(column.type):
        counts = np.diff(column.offsets.to_numpy()).astype(np.int64)
        return counts, column.flatten().flatten().to_numpy().reshape(-1, dimension)
    return present.astype(np.int64), column.flatten().to_numpy().reshape(-1, dimension)[present]
