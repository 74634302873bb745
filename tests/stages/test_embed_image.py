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
from modalrec.stages import embed_text, fuse
from modalrec.stages.embed_image import Config, embed_image
from tests.encoders.small import folder_of
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
    assert manifest.statistics == {**metrics, "encoder": "hashing", "precision": "float32"}
    assert list(manifest.files) == ["embeddings.parquet"]


def test_dataset_without_pictures_needs_no_weights_and_can_be_fused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe of texts alone runs through, and the line says why every vector is missing."""
    dataset = write_dataset(tmp_path / "dataset", ["a", "b c"])
    config = resolve(Config, {"encoder": {"name": "timm", "model": "no-such/model"}})
    metrics = embed_image(dataset, tmp_path / "image", config=config, run=Run("embed_image", device="cpu"))
    assert metrics == {"items": 2, "present": 0, "missing": 2, "distinct": 0, "dimension": 1}
    assert "no item has any image: no weights are loaded, and all items count as missing" in capsys.readouterr().err
    _, present, vectors = load(tmp_path / "image")
    assert not present.any()
    assert vectors.tolist() == [[0], [0]]
    text_run, fuse_run = Run("embed_text", device="cpu", quiet=True), Run("fuse", device="cpu", quiet=True)
    texts = embed_text.Config(encoder=HashingConfig(dimension=32))
    embed_text.embed_text(dataset, tmp_path / "text", config=texts, run=text_run)
    fused = fuse.fuse(tmp_path / "both", tmp_path / "text", tmp_path / "image", config=fuse.Config(), run=fuse_run)
    assert fused["present"] == fused["items_text"] == 2


def test_default_encoder_is_efficientnet(dataset: Path, tmp_path: Path) -> None:
    metrics = embed_image(dataset, tmp_path / "image", config=resolve(Config), run=RUN)
    assert metrics["dimension"] == 1280
    _, present, vectors = load(tmp_path / "image")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])


def test_encoder_of_texts_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"encoder.*'minilm' does not encode image; use one of efficientnet, hashing, huggingface, open_",
    ):
        resolve(Config, {"encoder": {"name": "minilm"}})


def test_a_preset_of_texts_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(
        ConfigError, match=r"encoder: preset 'bert' does not encode image; use one of clip, vit, dinov2"
    ):
        resolve(Config, {"encoder": {"name": "huggingface", "preset": "bert"}})
    with pytest.raises(ConfigError, match=r"encoder: model: missing; give a name of the hub"):
        resolve(Config, {"encoder": {"name": "huggingface"}})


@pytest.mark.parametrize(
    ("settings", "folder", "dimension"),
    [
        ({"name": "huggingface", "preset": "clip"}, "clip", 24),
        ({"name": "huggingface", "preset": "vit"}, "vit", 32),
        ({"name": "open_clip"}, "open_clip", 24),
        ({"name": "timm"}, "timm", 512),
    ],
)
def test_models_in_folders_from_end_to_end(
    dataset: Path, tmp_path: Path, settings: dict, folder: str, dimension: int
) -> None:
    config = resolve(Config, {"encoder": {**settings, "model": str(folder_of(folder))}, "precision": "bfloat16"})
    metrics = embed_image(dataset, tmp_path / "image", config=config, run=RUN)
    assert metrics == {"items": 7, "present": 4, "missing": 3, "distinct": 3, "dimension": dimension}
    _, present, vectors = load(tmp_path / "image")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-5)
    statistics = read_manifest(tmp_path / "image", "embeddings").statistics
    assert statistics["precision"] == "bfloat16"
    assert len(statistics["weights"]) == 64
