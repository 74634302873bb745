from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embeddings import load
from modalrec.config import resolve
from modalrec.data.images import open_image
from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.errors import ConfigError
from modalrec.run import Run
from modalrec.stages.embed_image import Config, embed_image
from tests.stages.small import jpeg, write_dataset

RUN = Run("embed_image", device="cpu", quiet=True)
SMALL = Config(encoder=HashingConfig(dimension=32), batch_size=2)
PICTURES = {0: jpeg("red"), 2: jpeg("navy"), 3: jpeg("red"), 5: jpeg("white", (1, 1))}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", ["text"] * 7, PICTURES)


def test_vectors_in_the_datasets_order_missing_ones_zero(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_image(dataset, tmp_path / "image", config=SMALL, run=RUN)
    item_ids, present, vectors = load(tmp_path / "image")
    assert item_ids.tolist() == [f"a{row}" for row in range(7)]
    assert np.flatnonzero(present).tolist() == [0, 2, 3, 5]
    alone = Hashing(HashingConfig(dimension=32), "cpu")
    for row in range(7):
        expected = alone.encode_images([open_image(PICTURES[row])])[0] if row in PICTURES else np.zeros(32)
        np.testing.assert_allclose(vectors[row], expected, atol=1e-6)
    assert metrics == {"items": 7, "present": 4, "missing": 3, "distinct": 3, "dimension": 32}
    manifest = read_manifest(tmp_path / "image", "embeddings")
    assert manifest.statistics == {**metrics, "encoder": "hashing"}
    assert list(manifest.files) == ["embeddings.parquet"]


def test_dataset_without_pictures_has_all_vectors_missing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", ["a", "b"])
    metrics = embed_image(dataset, tmp_path / "image", config=SMALL, run=RUN)
    _, present, vectors = load(tmp_path / "image")
    assert metrics["missing"] == 2
    assert not present.any()
    assert vectors.shape == (2, 32)
    assert not vectors.any()


def test_default_encoder_is_efficientnet(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_image(dataset, tmp_path / "image", config=resolve(Config), run=RUN)
    assert metrics["dimension"] == 1280
    _, present, vectors = load(tmp_path / "image")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])


def test_encoder_of_texts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.*'minilm' does not encode image; use one of efficientnet, hashing"):
        resolve(Config, {"encoder": {"name": "minilm"}})
