import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.embedding_lists import ListsWriter, VectorLists, load_lists
from modalrec.artifacts.embeddings import EmbeddingsReader
from modalrec.config import Config
from modalrec.errors import ArtifactError
from modalrec.run import Run
from modalrec.stages.fuse import Config as FuseConfig
from modalrec.stages.fuse import fuse
from tests.stages.small import write_embeddings

WORDS_VD = np.eye(4, dtype=np.float32)
LISTS = [[0, 1], [], [1, 2, 3], [1]]


def write_lists(folder: Path, lists: list[list[int]] = LISTS, vectors_VD: np.ndarray = WORDS_VD) -> Path:
    """An Embeddings artifact whose items `i0`, `i1`, ... have these rows of `vectors_VD`."""
    with (
        write_artifact(folder, "embeddings", stage="embed_text", config=Config(), seed=0, inputs={}) as work,
        ListsWriter(work.folder, vectors_VD.shape[1]) as writer,
    ):
        for begin in range(0, len(lists), 3):
            part = lists[begin : begin + 3]
            counts = np.array([len(rows) for rows in part], np.int64)
            vectors = vectors_VD[np.array([row for rows in part for row in rows], np.int64)]
            writer.write([f"i{row}" for row in range(begin, begin + len(part))], counts, vectors)
    return folder


def vectors_of(lists: VectorLists, item: int) -> list[list[float]]:
    return lists.vectors_VD[lists.of(np.array([item]))[0]].tolist()


def test_lists_come_back_and_equal_vectors_are_kept_once(tmp_path: Path) -> None:
    item_ids, lists = load_lists(write_lists(tmp_path / "words"))
    assert item_ids.tolist() == ["i0", "i1", "i2", "i3"]
    assert lists.counts.tolist() == [2, 0, 3, 1]
    assert [vectors_of(lists, item) for item in range(4)] == [WORDS_VD[rows].tolist() for rows in LISTS]
    assert lists.vectors_VD.shape == (4, 4)
    assert isinstance(lists.vectors_VD, np.memmap)


def test_some_items_in_any_order(tmp_path: Path) -> None:
    _, lists = load_lists(write_lists(tmp_path / "words"))
    rows, counts = lists.of(np.array([2, 1, 0, 2]))
    assert counts.tolist() == [3, 0, 2, 3]
    np.testing.assert_array_equal(lists.vectors_VD[rows], WORDS_VD[[1, 2, 3, 0, 1, 1, 2, 3]])


def test_means_have_length_one_or_are_zero(tmp_path: Path) -> None:
    _, lists = load_lists(write_lists(tmp_path / "words"))
    means_ND = lists.means()
    np.testing.assert_allclose(means_ND[0], [0.5**0.5, 0.5**0.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(means_ND, axis=1), [1, 0, 1, 1], rtol=1e-6)


def test_sums_hold_the_vectors_of_few_items_at_a_time() -> None:
    """Never items x words x numbers at once, here 184 MB of a vocabulary of 50 words."""
    rng, n_items, words, length = np.random.default_rng(0), 4000, 15, 768
    vocabulary_VD = rng.standard_normal((50, length)).astype(np.float32)
    members = rng.integers(50, size=n_items * words).astype(np.int32)
    lists = VectorLists(vocabulary_VD, members, np.arange(0, len(members) + 1, words))
    items = rng.permutation(n_items)
    tracemalloc.start()
    try:
        sums_UD = lists.sums_of(items)
        assert tracemalloc.get_traced_memory()[1] < n_items * words * length * 4 / 2
    finally:
        tracemalloc.stop()
    for row in (0, 1023, 1024, n_items - 1):
        expected_D = vocabulary_VD[members.reshape(n_items, words)[items[row]]].sum(0)
        np.testing.assert_allclose(sums_UD[row], expected_D, rtol=1e-4, atol=1e-4)


def test_one_vector_an_item_reads_as_lists_of_one(tmp_path: Path) -> None:
    vectors_ND, present_N = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([True, False, True, True])
    _, lists = load_lists(write_embeddings(tmp_path / "vectors", vectors_ND, present_N))
    assert lists.counts.tolist() == [1, 0, 1, 1]
    same = VectorLists.single(vectors_ND, present_N)
    for item in range(4):
        assert vectors_of(lists, item) == vectors_of(same, item)


def test_a_reader_of_single_vectors_refuses_lists_with_what_to_do(tmp_path: Path) -> None:
    words = write_lists(tmp_path / "words")
    with pytest.raises(ArtifactError, match="list of vectors an item, and one is needed here; embed with"):
        EmbeddingsReader(words)
    with pytest.raises(ArtifactError, match="list of vectors"):
        fuse(tmp_path / "fused", words, config=FuseConfig(), run=Run("fuse", quiet=True))
    assert not (tmp_path / "fused").exists()


def test_a_vector_that_is_not_finite_is_named(tmp_path: Path) -> None:
    broken_VD = WORDS_VD.copy()
    broken_VD[3, 1] = np.nan
    with pytest.raises(ArtifactError, match="item 'i2' has a vector that is not finite"):
        load_lists(write_lists(tmp_path / "words", vectors_VD=broken_VD))


def test_nobody_has_a_vector(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "words", [[], []])
    read_manifest(folder, "embeddings")
    _, lists = load_lists(folder)
    assert (len(lists), lists.dimension, lists.vectors_VD.shape) == (2, 4, (0, 4))
    assert not lists.means().any()
