from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embeddings import ROWS, load
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.fusers.concat import ConcatConfig
from modalrec.fusers.sum import SumConfig
from modalrec.run import Run
from modalrec.stages import embed_text
from modalrec.stages.fuse import Config, fuse
from tests.stages.small import write_dataset, write_vectors

RUN = Run("fuse", seed=3, quiet=True)
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "text", IDS, [True, True, False, False], 6)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "image", IDS, [True, False, True, False], 10, seed=1)


def test_concat_of_both(text: Path, image: Path, tmp_path: Path) -> None:
    metrics = fuse(tmp_path / "fused", text, image, config=Config(), run=RUN)
    item_ids, present, vectors = load(tmp_path / "fused")
    assert item_ids.tolist() == IDS
    assert present.tolist() == [True, True, True, False]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), present, atol=1e-6)
    np.testing.assert_allclose(vectors[0, :6] * np.sqrt(2), _unit(load(text).vectors_ND[0]), atol=1e-6)
    np.testing.assert_allclose(vectors[2, 6:], _unit(load(image).vectors_ND[2]), atol=1e-6)
    assert metrics == {
        "items": 4,
        "present": 3,
        "missing": 1,
        "dimension": 16,
        "items_text_image": 1,
        "items_text": 1,
        "items_image": 1,
        "items_none": 1,
    }
    manifest = read_manifest(tmp_path / "fused", "embeddings")
    assert manifest.statistics == {**metrics, "fuser": "concat"}
    assert set(manifest.inputs) == {"text_embeddings", "image_embeddings"}


@pytest.mark.parametrize("wanted", ["text", "image"])
def test_only_what_is_asked_for_goes_in_and_into_the_lineage(
    text: Path, image: Path, tmp_path: Path, wanted: str
) -> None:
    config = resolve(Config, {"modalities": [wanted]})
    fuse(tmp_path / "fused", text, image, config=config, run=RUN)
    given = {f"{wanted}_embeddings": text if wanted == "text" else image}
    fuse(tmp_path / "alone", **given, config=config, run=RUN)
    both = [read_manifest(tmp_path / name, "embeddings") for name in ("fused", "alone")]
    assert both[0].digest == both[1].digest
    assert set(both[0].inputs) == set(given)
    other = {"image_embeddings": image} if wanted == "text" else {"text_embeddings": text}
    with pytest.raises(ConfigError, match=f"no vectors of modalities={wanted} are given; give {wanted}_embeddings"):
        fuse(tmp_path / "none", **other, config=config, run=RUN)


@pytest.mark.parametrize(("config", "dimension"), [(ConcatConfig(), 6), (SumConfig(dimension=5), 5)])
def test_one_modality_alone(text: Path, tmp_path: Path, config: ConcatConfig | SumConfig, dimension: int) -> None:
    metrics = fuse(tmp_path / "fused", text_embeddings=text, config=Config(fuser=config), run=RUN)
    assert metrics["dimension"] == dimension
    assert (metrics["items_text"], metrics["items_none"]) == (2, 2)
    assert load(tmp_path / "fused").present.tolist() == [True, True, False, False]


def test_a_modality_that_no_item_has_is_left_out(text: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", ["a"] * len(load(text).item_ids))
    skipped = resolve(embed_text.Config, {"encoder": {"name": "hashing"}, "skip": True})
    embed_text.embed_text(dataset, tmp_path / "none", config=skipped, run=Run("embed_text", quiet=True))
    run = Run("fuse", quiet=True)
    alone = fuse(tmp_path / "alone", text, config=Config(), run=run)
    assert fuse(tmp_path / "both", text, tmp_path / "none", config=Config(), run=run) == alone


def test_neither_modality_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give text_embeddings or image_embeddings"):
        fuse(tmp_path / "fused", config=Config(), run=RUN)


def test_same_seed_same_identity_other_seed_other_projection(text: Path, image: Path, tmp_path: Path) -> None:
    config = Config(fuser=SumConfig(dimension=8))
    for name, seed in (("first", 3), ("second", 3), ("third", 4)):
        fuse(tmp_path / name, text, image, config=config, run=Run("fuse", seed=seed, quiet=True))
    first, second, third = (read_manifest(tmp_path / name, "embeddings") for name in ("first", "second", "third"))
    assert first.digest == second.digest
    assert first.files != third.files


def test_other_number_of_items_is_refused(text: Path, tmp_path: Path) -> None:
    shorter = write_vectors(tmp_path / "image", IDS[:3], [True] * 3, 10)
    with pytest.raises(ArtifactError, match=r"text/embeddings.parquet has 4 items, .*image/embeddings.parquet has 3"):
        fuse(tmp_path / "fused", text, shorter, config=Config(), run=RUN)
    assert not (tmp_path / "fused").exists()


def test_other_order_is_refused_and_the_first_row_named(tmp_path: Path) -> None:
    ids = [f"i{row}" for row in range(ROWS + 9)]
    text = write_vectors(tmp_path / "text", ids, [True] * len(ids), 2)
    ids[ROWS + 3], ids[ROWS + 4] = ids[ROWS + 4], ids[ROWS + 3]
    image = write_vectors(tmp_path / "image", ids, [True] * len(ids), 2)
    with pytest.raises(
        ArtifactError, match=rf"row {ROWS + 3} is item 'i{ROWS + 3}' in .* and 'i{ROWS + 4}' in .*same dataset"
    ):
        fuse(tmp_path / "fused", text, image, config=Config(), run=RUN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image", "text"]


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
