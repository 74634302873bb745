"""The report's neighbours: who is nearest by the cosine, in any kind of embeddings."""

from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts.embedding_lists import ListsWriter
from modalrec.artifacts.embeddings import EmbeddingsReader
from modalrec.evaluation.report.neighbours import nearest, neighbour_section
from modalrec.run import Run
from tests.stages.small import jpeg, write_dataset, write_embeddings

RUN = Run("evaluate", quiet=True)


@pytest.mark.parametrize("rows", [1, 7, 8192])
def test_the_nearest_are_those_of_all_cosines(tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the blocks; an item without a vector is nobody's neighbour."""
    rng = np.random.default_rng(0)
    vectors_ND = rng.standard_normal((40, 5)).astype(np.float32)
    present_N = rng.random(40) < 0.8
    folder = write_embeddings(tmp_path / "e", vectors_ND * present_N[:, None], present_N)
    batches = EmbeddingsReader.batches
    monkeypatch.setattr(EmbeddingsReader, "batches", lambda self: batches(self, rows))
    asked = np.flatnonzero(present_N)[:5]
    unit_ND = vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    for item, found in zip(asked, nearest(folder, asked, 6), strict=True):
        others = [other for other in np.flatnonzero(present_N) if other != item]
        assert found == sorted(others, key=lambda other: -unit_ND[other] @ unit_ND[item])[:6]


def test_of_several_vectors_an_item_the_mean_counts(tmp_path: Path) -> None:
    axes = np.eye(3, dtype=np.float32)
    (tmp_path / "e").mkdir()
    with ListsWriter(tmp_path / "e", 3) as writer:
        writer.write(["a", "b", "c"], np.array([1, 2, 1]), axes[[0, 0, 1, 2]])
    assert nearest(tmp_path / "e", np.array([0]), 5) == [[1, 2]]


def test_only_items_with_every_modality_are_asked_for(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", ["one", "two", "three", "four"], {1: jpeg("red"), 3: jpeg("blue")})
    vectors_ND = np.eye(4, 6, dtype=np.float32) + 0.1
    text = write_embeddings(tmp_path / "t", vectors_ND)
    image = write_embeddings(tmp_path / "i", vectors_ND, np.array([False, True, False, True]))
    found = neighbour_section({"dataset": dataset, "text_embeddings": text, "image_embeddings": image}, RUN)
    assert {one.item.title for one in found} == {"Title 1", "Title 3"}
    assert [name for name, _ in found[0].spaces] == ["by text", "by picture"]
    assert [len(tiles) for _, tiles in found[0].spaces] == [3, 1]
    assert found[0].item.picture.startswith("data:image/jpeg;base64,")
    assert neighbour_section({"dataset": dataset}, RUN) == []
