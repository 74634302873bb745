"""The stage `quantize` with form=groups: one named group of codes a modality, for models of clicks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modalrec.artifacts import read_manifest
from modalrec.artifacts.codes import read_code_groups
from modalrec.artifacts.embeddings import EmbeddingsReader, load
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.evaluation.report.codes import code_section
from modalrec.evaluation.report.curves import read_curves
from modalrec.quantizers import load_quantizer
from modalrec.run import Run
from modalrec.stages._items import item_space
from modalrec.stages.quantize import Config, quantize
from modalrec.testing.quantizers import mixture
from tests.stages.small import write_dataset, write_embeddings

QUIET = Run("quantize", device="cpu", quiet=True)
GROUPS: dict[str, Any] = {
    "form": "groups",
    "towers": "separate",
    "quantizer": {"name": "vqvae", "slots": 3, "width": 4, "codebook_size": 16, "hidden": [32], "shared": True},
    "training": {"epochs": 3, "batch_size": 64},
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    present_N = np.ones(400, bool)
    present_N[:3] = False
    return write_embeddings(tmp_path / "text", mixture()[0].numpy(), present_N)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_embeddings(tmp_path / "image", mixture(seed=1)[0].numpy()[:, :12])


def run_on(folder: Path, settings: dict[str, Any] | None = None, **edges: Path) -> dict[str, float]:
    return quantize(folder, **edges, config=resolve(Config, GROUPS, settings or {}), run=QUIET)


def test_each_modality_has_its_group_and_quantizer(text: Path, image: Path, tmp_path: Path) -> None:
    metrics = run_on(tmp_path / "codes", text_embeddings=text, image_embeddings=image)
    item_ids, groups = read_code_groups(tmp_path / "codes")
    assert item_ids == [f"i{row}" for row in range(400)]
    assert list(groups) == ["text", "image"]
    for name, edge in (("text", text), ("image", image)):
        group = groups[name]
        assert group.sizes == (16, 16, 16)
        assert group.shared
        present_N, vectors_ND = load(edge)[1:]
        found = load_quantizer(tmp_path / "codes" / name).encode(torch.from_numpy(vectors_ND[present_N]))
        assert found.tolist() == group.codes_NK[present_N].tolist()
        assert metrics[f"{name}_codebook_usage"] == len(np.unique(group.codes_NK)) / 16
        used = [len(np.unique(column)) / 16 for column in group.codes_NK.T]
        assert metrics[f"{name}_usage"] == pytest.approx(np.mean(used))
        assert 1 < metrics[f"{name}_perplexity"] < metrics[f"{name}_codebook_perplexity"] <= 16
        assert metrics[f"{name}_distinct"] == len(np.unique(group.codes_NK, axis=0)) < 400
        assert 0 < metrics[f"{name}_relative_reconstruction_error"] < 1
    assert (metrics["text_items_without_vector"], metrics["image_items_without_vector"]) == (3, 0)
    assert (groups["text"].codes_NK[:3] == groups["text"].codes_NK[0]).all(), "the codes of the mean"
    statistics = read_manifest(tmp_path / "codes", "codes").statistics
    assert {name: statistics[name] for name in metrics} == metrics
    assert len(statistics["image_perplexities"]) == 3
    curves = read_curves(tmp_path / "codes", "quantizer")
    assert list(curves) == ["text", "image"]
    epochs = list(range(1, int(metrics["epochs"]) // 2 + 1))
    assert [[entry["epoch"] for entry in entries] for entries in curves.values()] == [epochs, epochs]


@pytest.mark.parametrize("quantizer", [{"name": "rq_kmeans", "levels": 5}, {"name": "rqvae", "levels": 2}])
def test_any_quantizer_gives_groups(quantizer: dict[str, Any], text: Path, tmp_path: Path) -> None:
    settings = {"quantizer": {**quantizer, "codebook_size": 8}, "towers": "fused"}
    run_on(tmp_path / "codes", settings, embeddings=text)
    _, groups = read_code_groups(tmp_path / "codes")
    assert list(groups) == ["content"]
    assert groups["content"].sizes == (8,) * quantizer["levels"]
    assert not groups["content"].shared


def test_a_modality_without_vectors_has_no_group(text: Path, tmp_path: Path) -> None:
    none = write_embeddings(tmp_path / "none", np.zeros((400, 1), np.float32), np.zeros(400, bool))
    run_on(tmp_path / "codes", text_embeddings=text, image_embeddings=none)
    run_on(tmp_path / "alone", text_embeddings=text)
    groups, alone = read_code_groups(tmp_path / "codes")[1], read_code_groups(tmp_path / "alone")[1]
    assert list(groups) == list(alone) == ["text"]
    np.testing.assert_array_equal(groups["text"].codes_NK, alone["text"].codes_NK)
    with pytest.raises(DataError, match="none of the 400 items has a vector"):
        run_on(tmp_path / "nothing", image_embeddings=none)
    with pytest.raises(ConfigError, match="and text_embeddings and image_embeddings is not given"):
        run_on(tmp_path / "nothing")


def test_new_items_get_codes_of_the_same_meaning(text: Path, image: Path, tmp_path: Path) -> None:
    run_on(tmp_path / "codes", text_embeddings=text, image_embeddings=image)
    again = tmp_path / "again"
    edges = {"text_embeddings": text, "image_embeddings": image}
    quantize(again, **edges, codebook=tmp_path / "codes", config=resolve(Config, {}), run=QUIET)
    before, after = read_code_groups(tmp_path / "codes")[1], read_code_groups(again)[1]
    assert all((before[name].codes_NK == after[name].codes_NK).all() for name in ("text", "image"))
    fused = tmp_path / "fused"
    run_on(fused, {"towers": "fused"}, embeddings=text)
    quantize(tmp_path / "fused_again", text, codebook=fused, config=resolve(Config, {}), run=QUIET)
    assert list(read_code_groups(tmp_path / "fused_again")[1]) == ["content"]


def test_last_level_tells_nothing_apart() -> None:
    with pytest.raises(ConfigError, match="last_level=distinct tells items apart, which groups need not be"):
        resolve(Config, GROUPS, {"last_level": "distinct"})


def test_models_that_name_items_by_their_codes_refuse_groups(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", ["a", "b", "c"])
    ids = [f"a{row}" for row in range(3)]
    source = write_embeddings(tmp_path / "text", mixture()[0][:3].numpy(), item_ids=ids)
    run_on(tmp_path / "codes", text_embeddings=source)
    with pytest.raises(ArtifactError, match=r"holds the code groups text, .* `quantize` with form=semantic_id"):
        item_space(dataset, tmp_path / "codes")


def test_the_report_shows_few_codes_one_by_one_and_many_together(text: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", ["Text"] * EmbeddingsReader(text).n_items)
    for slots, shown in ((3, ["text, code 1 of 3", "text, code 2 of 3", "text, code 3 of 3"]), (20, None)):
        folder = tmp_path / f"codes_{slots}"
        run_on(folder, {"quantizer": {"slots": slots}}, text_embeddings=text)
        found = code_section({"codes": folder, "dataset": dataset}, {"codes": read_manifest(folder, "codes")})
        assert found is not None
        assert [level.name for level in found.levels] == (shown or ["text, its 20 codes together"])
        assert found.title == "Codes"
        assert found.steps[0].errors[0]
        assert sum(json.loads((folder / "map.json").read_bytes())["variance"]) > 0
