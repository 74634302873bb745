"""Embeddings as files: written and read in batches, so that memory does not grow with the catalogue."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import UNREADABLE, embedding_lists, embeddings, stream
from modalrec.errors import ArtifactError

# N items of a batch or of all, D length of the vectors.

NAME = "embeddings.parquet"
ROWS = 8192
"""Rows read at a time, and of a row group: 12 MiB of 384 numbers each."""


class Batch(NamedTuple):
    """Consecutive items of an Embeddings artifact.

    Attributes:
        item_ids: [N] ids, in the dataset's order.
        present: [N] whether the item has a vector.
        vectors_ND: [N, D]; rows that are not present are zero.
    """

    item_ids: NDArray[np.object_]
    present: NDArray[np.bool_]
    vectors_ND: NDArray[np.float32]


class EmbeddingsWriter:
    """Writes `embeddings.parquet` batch by batch; use it in a `with`.

    Args:
        folder: The building place of the artifact.
        dimension: Length of the vectors, D.
    """

    def __init__(self, folder: Path, dimension: int) -> None:
        self.dimension = dimension
        self.schema = embeddings(dimension)
        # Neither dictionaries nor compression make float32 vectors notably smaller.
        self._writer = pq.ParquetWriter(folder / NAME, self.schema, compression="none", use_dictionary=False)

    def __enter__(self) -> "EmbeddingsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(
        self, item_ids: Sequence[str] | NDArray[np.object_], present: NDArray[np.bool_], vectors_ND: NDArray[np.float32]
    ) -> None:
        """Appends items; the vectors of items that are not present become zero.

        Raises:
            ValueError: The three do not have the same length, or the vectors another one than `dimension`.
        """
        if vectors_ND.shape != (len(item_ids), self.dimension) or len(present) != len(item_ids):
            raise ValueError(
                f"{len(item_ids)} ids, {len(present)} flags and vectors {vectors_ND.shape} of length {self.dimension}"
            )
        flat = np.where(present[:, None], vectors_ND, np.float32(0)).astype(np.float32).reshape(-1)
        columns = [
            pa.array(item_ids, pa.string()),
            pa.array(present, pa.bool_()),
            pa.FixedSizeListArray.from_arrays(pa.array(flat), self.dimension),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), row_group_size=ROWS)


class EmbeddingsReader:
    """Reads an Embeddings artifact, whose manifest the caller has checked.

    Args:
        folder: The artifact.
        lists: Whether the reader can do with several vectors an item (see `embedding_lists`); `batches` cannot.

    Attributes:
        n_items: Number of rows.
        dimension: Length of the vectors, D.

    Raises:
        ArtifactError: The file is missing, no parquet, or has other columns.
    """

    def __init__(self, folder: Path, *, lists: bool = False) -> None:
        self.path = folder / NAME
        try:
            with pq.ParquetFile(self.path) as file:
                found = file.schema_arrow
                self.n_items: int = file.metadata.num_rows
        except UNREADABLE as error:
            raise ArtifactError(f"{self.path}: cannot be read ({error}); run the stage that made it again") from None
        index = found.get_field_index("embedding")
        kind: Any = found.field(index).type if index >= 0 else pa.null()
        several = pa.types.is_list(kind) and pa.types.is_fixed_size_list(kind.value_type)
        if several and not lists:
            raise ArtifactError(
                f"{self.path}: has a list of vectors an item, and one is needed here; embed with max_sentences=1 or "
                "without a vocabulary"
            )
        inner = kind.value_type if several else kind
        self.dimension: int = inner.list_size if pa.types.is_fixed_size_list(inner) else 0
        schema = (embedding_lists if several else embeddings)(max(1, self.dimension))
        if {field.name: field.type for field in found} != {field.name: field.type for field in schema}:
            columns = ", ".join(f"{field.name} {field.type}" for field in found)
            raise ArtifactError(
                f"{self.path}: has the columns {columns} instead of item_id string, present bool, "
                "embedding fixed_size_list<float32>; run the stage that made it again"
            )

    def batches(self, rows: int = ROWS) -> Iterator[Batch]:
        """Yields all items in order, `rows` at a time and the rest at the end, whatever the file's row groups.

        Raises:
            ArtifactError: A vector is not finite.
        """
        done = 0
        with pq.ParquetFile(self.path) as file:
            for batch in stream(file, rows):
                item_ids = batch.column("item_id").to_numpy(zero_copy_only=False)
                present = batch.column("present").to_numpy(zero_copy_only=False)
                vectors_ND = batch.column("embedding").flatten().to_numpy().reshape(-1, self.dimension)
                finite = np.isfinite(vectors_ND).all(axis=1)
                if not finite.all():
                    row = int(np.argmin(finite))
                    raise ArtifactError(
                        f"{self.path}: row {done + row} (item {item_ids[row]!r}) has a vector that is not finite; "
                        "run the stage that made it again"
                    )
                yield Batch(item_ids, present, vectors_ND)
                done += len(item_ids)

    def take(self, items: NDArray[np.int64]) -> NDArray[np.float32]:
        """[N, D] the vectors of some items; of the file only the row groups that hold them are read."""
        found_ND = np.empty((len(items), self.dimension), np.float32)
        with pq.ParquetFile(self.path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups_N = np.searchsorted(ends, items, side="right")
            for group in np.unique(groups_N):
                column = file.read_row_group(int(group), columns=["embedding"]).column(0).combine_chunks()
                vectors = column.flatten().to_numpy().reshape(-1, self.dimension)
                found_ND[groups_N == group] = vectors[items[groups_N == group] - (ends[group] - sizes[group])]
        return found_ND


def load(folder: Path) -> Batch:
    """Reads all items of an Embeddings artifact into memory: 4 bytes x N x D, and the caller may change them.

    Raises:
        ArtifactError: As `EmbeddingsReader`.
    """
    reader = EmbeddingsReader(folder)
    item_ids = np.empty(reader.n_items, object)
    present = np.empty(reader.n_items, np.bool_)
    vectors_ND = np.empty((reader.n_items, reader.dimension), np.float32)
    done = 0
    for batch in reader.batches():
        rows = slice(done, done + len(batch.item_ids))
        item_ids[rows], present[rows], vectors_ND[rows] = batch
        done = rows.stop
    return Batch(item_ids, present, vectors_ND)
