"""The stage `quantize`, on the real vectors of 800 products and on inputs with faults."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.embeddings import EmbeddingsReader, load
from modalrec.artifacts.schemas import ITEMS
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.quantizers import load_quantizer
from modalrec.run import Run
from modalrec.stages.quantize import Config, quantize
from modalrec.testing.quantizers import mixture
from tests.stages.small import write_embeddings

QUIET = Run("quantize", device="cpu", quiet=True)
SMALL: dict[str, Any] = {
    "quantizer": {"levels": 2, "codebook_size": 16, "hidden": [32]},
    "training": {"epochs": 3, "batch_size": 64},
}


@pytest.fixture(scope="module")
def titles(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MiniLM's vectors of 800 titles of Amazon Scientific."""
    stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy", mmap_mode="r")
    return write_embeddings(tmp_path_factory.mktemp("titles") / "embeddings", stored[:800].astype(np.float32))


@pytest.fixture
def clusters(tmp_path: Path) -> Path:
    """400 vectors of 8 clusters."""
    return write_embeddings(tmp_path / "embeddings", mixture()[0].numpy())


def run_on(source: Path, folder: Path, run: Run = QUIET, **settings: Any) -> dict[str, float]:
    return quantize(folder, source, config=resolve(Config, SMALL, settings), run=run)


def test_real_titles(titles: Path, tmp_path: Path) -> None:
    settings = {"quantizer": {"codebook_size": 64, "levels": 3, "hidden": [128]}, "training": {"epochs": 15}}
    metrics = run_on(titles, tmp_path / "codes", **settings)
    item_ids, codes_NL, sizes = read_codes(tmp_path / "codes")
    assert item_ids == [f"i{row}" for row in range(800)]
    assert len(np.unique(codes_NL, axis=0)) == 800
    assert sizes[:3] == (64, 64, 64)
    assert metrics["items"] == metrics["distinct"] + metrics["collisions"] == 800
    assert metrics["collisions"] < 80
    assert sizes[3] == metrics["largest_group"] == codes_NL[:, 3].max() + 1
    for level in (1, 2, 3):
        assert metrics[f"level_{level}_usage"] == len(np.unique(codes_NL[:, level - 1])) / 64 > 0.95
        assert 32 < metrics[f"level_{level}_perplexity"] <= 64
        assert 0.8 < metrics[f"level_{level}_normalised_entropy"] <= 1
    assert metrics["relative_reconstruction_error"] < 0.6
    assert metrics["held_out_relative_reconstruction_error"] < 0.75
    statistics = read_manifest(tmp_path / "codes", "codes").statistics
    assert {name: statistics[name] for name in metrics} == metrics
    assert statistics["codebook_sizes"] == list(sizes)


def test_equal_titles_share_their_codes_and_similar_ones_the_first(titles: Path, tmp_path: Path) -> None:
    run_on(titles, tmp_path / "codes")
    codes_NL = read_codes(tmp_path / "codes")[1]
    vectors_ND = load(titles).vectors_ND
    cosines_NN = vectors_ND @ vectors_ND.T
    np.fill_diagonal(cosines_NN, -1)
    neighbour_N = cosines_NN.argmax(1)
    shared = (codes_NL[neighbour_N, 0] == codes_NL[:, 0]).mean()
    by_chance = np.square(np.bincount(codes_NL[:, 0]) / 800).sum()
    assert shared > 0.5 > 4 * by_chance


def test_new_items_are_coded_from_the_folder_alone(clusters: Path, tmp_path: Path) -> None:
    run_on(clusters, tmp_path / "codes")
    quantizer = load_quantizer(tmp_path / "codes")
    codes_NL = read_codes(tmp_path / "codes")[1]
    assert quantizer.encode(mixture()[0]).tolist() == codes_NL[:, :-1].tolist()
    assert quantizer.encode(mixture(seed=7)[0]).shape == (400, 2)


def test_same_seed_same_bytes(clusters: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second", "other_seed")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        run_on(clusters, folder, Run("quantize", seed=seed, device="cpu", quiet=True))
    digests = [read_manifest(folder, "codes").digest for folder in folders]
    assert digests[0] == digests[1] != digests[2]


def test_curves_hold_every_epoch(clusters: Path, tmp_path: Path) -> None:
    run_on(clusters, tmp_path / "codes", training={"epochs": 8})
    curves = json.loads((tmp_path / "codes" / "curves.json").read_bytes())
    assert [entry["epoch"] for entry in curves] == list(range(1, 9))
    assert curves[-1]["reconstruction"] < curves[0]["reconstruction"]
    assert all(0 < entry["held_out_explained_variance"] < 1 for entry in curves)


def test_held_out_items_are_not_learnt_from(tmp_path: Path) -> None:
    """Without a share held out, or with too few items for one, the last epoch is kept and nothing reported of them."""
    source = write_embeddings(tmp_path / "embeddings", mixture()[0].numpy())
    metrics = run_on(source, tmp_path / "all", valid_share=0)
    assert "held_out_relative_reconstruction_error" not in metrics
    assert metrics["best_epoch"] == metrics["epochs"] == 3
    few = write_embeddings(tmp_path / "few", mixture()[0][:10].numpy())
    assert "held_out_relative_reconstruction_error" not in run_on(few, tmp_path / "few_codes")


def test_items_without_vector_get_the_codes_of_the_mean(tmp_path: Path) -> None:
    vectors_ND = mixture()[0].numpy().copy()
    present_N = np.ones(len(vectors_ND), bool)
    present_N[[0, 5, 200]] = False
    vectors_ND[5] = 1e9  # what is not present is never read
    metrics = run_on(write_embeddings(tmp_path / "embeddings", vectors_ND, present_N), tmp_path / "codes")
    assert metrics["items_without_vector"] == 3
    codes_NL = read_codes(tmp_path / "codes")[1]
    mean = torch.from_numpy(vectors_ND[present_N].mean(0, keepdims=True))
    expected = load_quantizer(tmp_path / "codes").encode(mean)[0].tolist()
    assert codes_NL[[0, 5, 200], :2].tolist() == [expected] * 3
    positions = codes_NL[[0, 5, 200], 2]
    others = (codes_NL[:, :2] == expected).all(1).sum() - 3
    assert positions.tolist() == [others, others + 1, others + 2]


@pytest.mark.parametrize(
    ("vectors_ND", "distinct"),
    [
        (mixture()[0][:1].numpy(), 1),
        (mixture()[0][:5].numpy(), 5),
        (np.repeat(mixture()[0][:1].numpy(), 30, axis=0), 1),
        (np.zeros((30, 8), np.float32), 1),
    ],
    ids=["one item", "fewer items than codes", "equal vectors", "zero vectors"],
)
def test_few_or_equal_vectors(tmp_path: Path, vectors_ND: NDArray[np.float32], distinct: int) -> None:
    metrics = run_on(write_embeddings(tmp_path / "embeddings", vectors_ND), tmp_path / "codes")
    _, codes_NL, sizes = read_codes(tmp_path / "codes")
    assert len(np.unique(codes_NL, axis=0)) == len(vectors_ND)
    assert metrics["distinct"] == distinct
    assert sizes[-1] == len(vectors_ND) - distinct + 1
    assert metrics["relative_reconstruction_error"] <= 1


ACCEPTED = [
    # quantizer, way of the last level, items minus distinct IDs, error relative to the variance
    ({"name": "rq_kmeans", "balanced": True}, "sinkhorn", 27, 0.36),
    ({"name": "rq_kmeans", "balanced": True}, "distinct", 0, 0.35),
]


@pytest.mark.parametrize(("quantizer", "way", "collisions", "error"), ACCEPTED)
def test_amazon_scientific_before_positions(
    real_data: Path, tmp_path: Path, quantizer: dict[str, Any], way: str, collisions: int, error: float
) -> None:
    """4 levels of 256: at most 27 of 4,344 items share their ID, the best published figure, all codes in use.

    13 items have the same vector as another: nothing that codes each item by itself tells them apart.
    """
    stored = np.load(real_data / "derived" / "scientific_text_minilm_l6_fp16.npy").astype(np.float32)
    config = {"quantizer": {**quantizer, "levels": 4, "codebook_size": 256}, "last_level": way}
    source = write_embeddings(tmp_path / "embeddings", stored)
    metrics = quantize(tmp_path / "codes", source, config=resolve(Config, config), run=QUIET)
    assert metrics["collisions"] <= collisions < metrics["nearest_collisions"]
    assert min(metrics[f"level_{level}_usage"] for level in (1, 2, 3, 4)) >= 0.95
    assert metrics["nearest_relative_reconstruction_error"] < metrics["relative_reconstruction_error"] < error
    assert metrics["collisions_left"] == 0
    assert len(np.unique(read_codes(tmp_path / "codes")[1], axis=0)) == len(stored) == 4344


def modalities(folder: Path, image_length: int) -> tuple[Path, Path]:
    """Texts of 8 clusters and pictures of others, of the same 400 items; each is missing of some."""
    text_ND, image_ND = mixture(seed=0)[0].numpy(), mixture(seed=1)[0].numpy()[:, :image_length]
    has_text, has_image = np.ones(400, bool), np.ones(400, bool)
    has_text[:3], has_image[2:5] = False, False
    return write_embeddings(folder / "text", text_ND, has_text), write_embeddings(folder / "image", image_ND, has_image)


@pytest.mark.parametrize("towers", ["separate", "shared"])
def test_one_tower_per_modality(tmp_path: Path, towers: str) -> None:
    text, image = modalities(tmp_path, 24 if towers == "shared" else 12)
    config = resolve(Config, SMALL, {"towers": towers})
    folder = tmp_path / "codes"
    metrics = quantize(folder, text_embeddings=text, image_embeddings=image, config=config, run=QUIET)
    codes_NL, sizes = read_codes(folder)[1:]
    assert sizes[:4] == (16, 16, 16, 16)
    assert metrics["items_without_vector"] == 1
    own = [load_quantizer(folder / name) for name in ("text", "image")]
    shared = [torch.equal(*pair) for pair in zip(*(tower.state_dict().values() for tower in own), strict=True)]
    assert all(shared) == (towers == "shared")
    for place, (name, edge) in enumerate({"text": text, "image": image}.items()):
        present_N, vectors_ND = load(edge)[1:]
        found = own[place].encode(torch.from_numpy(vectors_ND[present_N]))
        assert found.tolist() == codes_NL[present_N, 2 * place : 2 * place + 2].tolist()
        assert 0 < metrics[f"{name}_relative_reconstruction_error"] < 1
    assert set(read_manifest(folder, "codes").inputs) == {"text_embeddings", "image_embeddings"}
    written = json.loads((folder / "quantizer.json").read_bytes())
    assert (written["towers"], written["shared"]) == (["text", "image"], towers == "shared")


def test_last_level_of_towers(tmp_path: Path) -> None:
    text, image = modalities(tmp_path, 12)
    settings = {"towers": "separate", "last_level": "distinct", "quantizer": {"levels": 1, "codebook_size": 64}}
    config = resolve(Config, SMALL, settings)
    metrics = quantize(tmp_path / "c", text_embeddings=text, image_embeddings=image, config=config, run=QUIET)
    assert metrics["collisions"] <= 4 < metrics["nearest_collisions"]
    assert metrics["image_relative_reconstruction_error"] > metrics["nearest_image_relative_reconstruction_error"]
    assert metrics["text_relative_reconstruction_error"] == metrics["nearest_text_relative_reconstruction_error"]


def test_edges_that_the_towers_need(clusters: Path, tmp_path: Path) -> None:
    config = resolve(Config, SMALL, {"towers": "separate"})
    with pytest.raises(
        ConfigError, match="towers='separate' codes text_embeddings and image_embeddings, and image_emb"
    ):
        quantize(tmp_path / "codes", text_embeddings=clusters, config=config, run=QUIET)
    with pytest.raises(ConfigError, match="and embeddings is not given"):
        quantize(tmp_path / "codes", text_embeddings=clusters, config=resolve(Config, SMALL), run=QUIET)


def test_shared_codes_of_vectors_of_different_lengths(tmp_path: Path) -> None:
    text, image = modalities(tmp_path, 12)
    config = resolve(Config, SMALL, {"towers": "shared"})
    with pytest.raises(ConfigError, match="vectors of one length, and text has 24, image has 12"):
        quantize(tmp_path / "codes", text_embeddings=text, image_embeddings=image, config=config, run=QUIET)


def test_towers_of_different_items(tmp_path: Path) -> None:
    text, image = modalities(tmp_path, 12)[0], write_embeddings(tmp_path / "few", mixture()[0][:9].numpy())
    config = resolve(Config, SMALL, {"towers": "separate"})
    with pytest.raises(ArtifactError, match="not about the same items as the other tower"):
        quantize(tmp_path / "codes", text_embeddings=text, image_embeddings=image, config=config, run=QUIET)


def interactions(folder: Path, n_items: int, last: int) -> Path:
    """A dataset in which 40 users choose among the items, and all end in the same one."""
    rng = np.random.default_rng(0)
    rows = [[*rng.integers(0, n_items, 8), last] for _ in range(40)]
    columns = {
        "user": np.repeat(np.arange(40), 9).astype(np.int32),
        "item": np.array(rows, np.int32).ravel(),
        "position": np.tile(np.arange(9), 40).astype(np.int32),
        "timestamp": pa.nulls(360, pa.int64()),
        "rating": pa.nulls(360, pa.float32()),
        "split_leave_one_out": np.tile([0] * 7 + [1, 2], 40).astype(np.int8),
    }
    items = {
        "item_id": [f"i{row}" for row in range(n_items)],
        **{field.name: pa.nulls(n_items, field.type) for field in list(ITEMS)[1:-1]},
        "image": ["none"] * n_items,
    }
    with write_artifact(folder, "dataset", stage="ingest", config=Config(), seed=0, inputs={}) as work:
        pq.write_table(pa.table(columns), work.folder / "interactions.parquet")
        pq.write_table(pa.table(items), work.folder / "items.parquet")
    return folder


ALIGNED = {"quantizer": {"alignment": 0.5, "diversity": 1e-3, "collaborative_width": 8}}


def test_alignment_reads_train_events_alone(clusters: Path, tmp_path: Path) -> None:
    """Datasets that differ in their test events give the same codes and weights."""
    config, codes = resolve(Config, SMALL, ALIGNED), []
    for name, last in (("first", 3), ("second", 7)):
        dataset = interactions(tmp_path / f"{name}_data", 400, last)
        quantize(tmp_path / name, clusters, dataset=dataset, config=config, run=QUIET)
        codes.append((tmp_path / name / "quantizer.safetensors").read_bytes())
        assert "dataset" in read_manifest(tmp_path / name, "codes").inputs
    assert codes[0] == codes[1]
    curves = json.loads((tmp_path / "first" / "curves.json").read_bytes())
    assert curves[-1]["alignment"] < curves[0]["alignment"]


def test_alignment_without_the_right_dataset(clusters: Path, tmp_path: Path) -> None:
    config = resolve(Config, SMALL, ALIGNED)
    with pytest.raises(ConfigError, match="alignment needs the interactions, and `dataset` is not given"):
        quantize(tmp_path / "codes", clusters, config=config, run=QUIET)
    dataset = interactions(tmp_path / "data", 30, 3)
    with pytest.raises(ArtifactError, match="has other items than the embeddings"):
        quantize(tmp_path / "codes", clusters, dataset=dataset, config=config, run=QUIET)


def test_items_without_a_train_event_teach_the_codebook_nothing(tmp_path: Path) -> None:
    """Two catalogues that differ in an item that is only tested: equal weights, and the item is coded all the same."""
    config, vectors_ND, weights = resolve(Config, SMALL, {"learn_from": "train"}), mixture()[0].numpy(), []
    dataset = interactions(tmp_path / "data", 400, 399)
    for name, shift in (("first", 0.0), ("second", 9.0)):
        vectors_ND[399] += shift
        vectors = write_embeddings(tmp_path / f"{name}_vectors", vectors_ND)
        metrics = quantize(tmp_path / name, vectors, dataset=dataset, config=config, run=QUIET)
        weights.append((tmp_path / name / "quantizer.safetensors").read_bytes())
        assert metrics["items"] == len(read_codes(tmp_path / name)[1]) == 400
        assert "dataset" in read_manifest(tmp_path / name, "codes").inputs
    assert weights[0] == weights[1]
    with pytest.raises(ConfigError, match="learn_from=train needs the train events; give --dataset"):
        quantize(tmp_path / "codes", vectors, config=config, run=QUIET)


@pytest.mark.parametrize("name", ["rq_kmeans", "pq", "opq"])
def test_quantizers_without_gradients_have_no_epochs(name: str, clusters: Path, tmp_path: Path) -> None:
    config = resolve(Config, {"quantizer": {"name": name, "levels": 2, "codebook_size": 8}})
    metrics = quantize(tmp_path / "codes", clusters, config=config, run=QUIET)
    assert metrics["epochs"] == metrics["best_epoch"] == 0
    assert json.loads((tmp_path / "codes" / "curves.json").read_bytes()) == []
    assert (
        load_quantizer(tmp_path / "codes").encode(mixture()[0]).tolist()
        == read_codes(tmp_path / "codes")[1][:, :2].tolist()
    )


def test_vectors_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at_once in ("stages.quantize.INITIAL_ROWS", "stages._quantize_code.MAP_ITEMS", "training.vectors.BLOCK_ROWS"):
        monkeypatch.setattr(f"modalrec.{at_once}", 250)
    monkeypatch.setattr(EmbeddingsReader.batches, "__defaults__", (250,))
    peaks = []
    for n_items in (1000, 4000):
        source = tmp_path / f"{n_items}"
        vectors_ND = np.random.default_rng(0).standard_normal((n_items, 512), np.float32)
        write_embeddings(source, vectors_ND, np.arange(n_items) != 5)
        del vectors_ND
        tracemalloc.start()
        try:
            run_on(source, tmp_path / f"codes_{n_items}", training={"epochs": 1, "batch_size": 250})
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert (peaks[1] - peaks[0]) / 3000 < 800, "less than half of each vector's 2,048 bytes"


def test_vector_that_is_not_finite(tmp_path: Path) -> None:
    vectors_ND = mixture()[0].numpy().copy()
    vectors_ND[17, 3] = np.nan
    with pytest.raises(ArtifactError, match=r"row 17 \(item 'i17'\) has a vector that is not finite"):
        run_on(write_embeddings(tmp_path / "embeddings", vectors_ND), tmp_path / "codes")
    assert not (tmp_path / "codes").exists()


def test_values_beyond_float32_arithmetic(tmp_path: Path) -> None:
    vectors_ND = mixture()[0].numpy() * np.float32(1e30)
    with pytest.raises(DataError, match=r"row \d+ \(item 'i\d+'\) has the extreme value \d.*e\+29"):
        run_on(write_embeddings(tmp_path / "embeddings", vectors_ND), tmp_path / "codes")
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings"]


@pytest.mark.parametrize("n", [0, 4])
def test_no_vector_at_all(tmp_path: Path, n: int) -> None:
    source = write_embeddings(tmp_path / "embeddings", np.zeros((n, 3), np.float32), np.zeros(n, bool))
    with pytest.raises(DataError, match=f"none of the {n} items has a vector; embed texts or images first"):
        run_on(source, tmp_path / "codes")


def test_codes_given_as_embeddings(clusters: Path, tmp_path: Path) -> None:
    run_on(clusters, tmp_path / "codes")
    with pytest.raises(ArtifactError, match="is of kind `codes`"):
        run_on(tmp_path / "codes", tmp_path / "again")


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"quantizer.codebok_size: unknown field, did you mean codebook_size\?"):
        resolve(Config, {"quantizer": {"codebok_size": 64}})
