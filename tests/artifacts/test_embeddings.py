from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.embeddings import NAME, EmbeddingsReader, EmbeddingsWriter, load
from modalrec.artifacts.schemas import embeddings, read_table
from modalrec.errors import ArtifactError


def _write(folder: Path, sizes: list[int], dimension: int = 3) -> tuple[list[str], np.ndarray, np.ndarray]:
    n = sum(sizes)
    ids = [f"item {row}" for row in range(n)]
    vectors = np.random.default_rng(0).standard_normal((n, dimension)).astype(np.float32)
    present = np.arange(n) % 4 != 1
    with EmbeddingsWriter(folder, dimension) as writer:
        first = 0
        for size in sizes:
            rows = slice(first, first + size)
            writer.write(ids[rows], present[rows], vectors[rows])
            first += size
    return ids, present, vectors * present[:, None]


def test_written_in_pieces_read_whole_and_in_other_pieces(tmp_path: Path) -> None:
    ids, present, vectors = _write(tmp_path, [5, 1, 7])
    whole = load(tmp_path)
    assert whole.item_ids.tolist() == ids
    np.testing.assert_array_equal(whole.present, present)
    np.testing.assert_array_equal(whole.vectors_ND, vectors)
    whole.vectors_ND[:] = 0
    reader = EmbeddingsReader(tmp_path)
    assert (reader.n_items, reader.dimension) == (13, 3)
    pieces = list(reader.batches(rows=4))
    assert [len(piece.item_ids) for piece in pieces] == [4, 4, 4, 1]
    np.testing.assert_array_equal(np.concatenate([piece.vectors_ND for piece in pieces]), vectors)


def test_some_items_are_read_from_their_row_groups(tmp_path: Path) -> None:
    _, _, vectors = _write(tmp_path, [5, 1, 7])
    items = np.array([12, 0, 5, 6, 4, 12])
    np.testing.assert_array_equal(EmbeddingsReader(tmp_path).take(items), vectors[items])


def test_file_has_the_columns_of_the_schema(tmp_path: Path) -> None:
    _write(tmp_path, [2])
    assert read_table(tmp_path / NAME, embeddings(3)).schema.equals(embeddings(3))


def test_no_items(tmp_path: Path) -> None:
    _write(tmp_path, [])
    assert load(tmp_path).vectors_ND.shape == (0, 3)


def test_writer_refuses_what_does_not_fit_together(tmp_path: Path) -> None:
    with EmbeddingsWriter(tmp_path, 3) as writer:
        for count, flags, shape in ((2, 2, (2, 4)), (2, 2, (3, 3)), (2, 1, (2, 3))):
            with pytest.raises(ValueError, match="ids"):
                writer.write(["a"] * count, np.ones(flags, bool), np.zeros(shape, np.float32))


def test_vector_that_is_not_finite_is_named(tmp_path: Path) -> None:
    vectors = np.zeros((9, 3), np.float32)
    vectors[7, 1] = np.nan
    with EmbeddingsWriter(tmp_path, 3) as writer:
        writer.write([f"i{row}" for row in range(9)], np.ones(9, bool), vectors)
    with pytest.raises(ArtifactError, match=r"row 7 \(item 'i7'\)"):
        list(EmbeddingsReader(tmp_path).batches(rows=5))


def test_missing_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with pytest.raises(ArtifactError, match=f"{NAME}: cannot be read"):
        load(tmp_path)
    _write(tmp_path, [50])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=f"{NAME}: cannot be read"):
        load(tmp_path)
    for columns in ({"item_id": ["a"]}, {"item_id": ["a"], "present": [True], "embedding": [[1.0, 2.0]]}):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(ArtifactError, match=f"{NAME}: has the columns item_id string"):
            load(tmp_path)
