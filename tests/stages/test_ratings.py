"""Models of ratings through their stages: finetune, and evaluate beside baselines and the model without content."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.data.moments import FIELDS
from modalrec.errors import ConfigError
from modalrec.recommenders import load_recommender
from modalrec.stages.finetune import Config
from modalrec.testing.rows import tastes
from tests.rows import clicks
from tests.stages.small import write_embeddings
from tests.stages.trained import run_stage

DLRM = {"name": "dlrm", "width": 8, "bottom": [8], "top": [32], "dropout": 0.0, "id_dropout": 0.1}
TRAINING = {"epochs": 6, "batch_size": 64, "learning_rate": 3e-3}
CONTENT = ("text_embeddings", "image_embeddings")


def finetune(target: Path, edges: dict[str, Path], **settings: Any) -> Path:
    recommender = {**DLRM, **settings}
    used = {edge: place for edge, place in edges.items() if edge == "dataset" or edge in CONTENT}
    run_stage("finetune", {"recommender": recommender, "split": "random", "training": TRAINING}, **used, model=target)
    return target


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Texts tell the genre; every third item has no picture."""
    folder = tmp_path_factory.mktemp("ratings")
    genres, rng = tastes().genres, np.random.default_rng(0)
    vectors_NV = np.eye(genres.max() + 1, dtype=np.float32)[genres]
    noise_NV = rng.standard_normal((len(genres), 6)).astype(np.float32)
    found = {
        "dataset": clicks(folder / "dataset"),
        "text_embeddings": write_embeddings(folder / "texts", vectors_NV, stage="embed_text"),
        "image_embeddings": write_embeddings(
            folder / "images", noise_NV, np.arange(len(genres)) % 3 > 0, stage="embed_image"
        ),
    }
    found["model"] = finetune(folder / "model", found)
    found["without_content"] = finetune(folder / "without", {"dataset": found["dataset"]}, without=["content"])
    return found


def test_a_model_of_ratings_is_measured_beside_its_ablation_and_baselines(
    edges: dict[str, Path], tmp_path: Path
) -> None:
    metrics = run_stage("evaluate", {"split": "random", "primary_metric": "rmse"}, **edges, evaluation=tmp_path / "e")
    assert metrics["rmse"] < 0.8 * metrics["biases_rmse"] < metrics["mean_rmse"]
    assert metrics["rmse_low"] < metrics["rmse"] < metrics["rmse_high"]
    assert metrics["primary_metric"] == metrics["rmse"] == pytest.approx(metrics["mse"] ** 0.5)
    named = {"without_content_rmse", "biased_mf_mae", "linear_rmse", "known_users_rmse", "rating_5_rmse"}
    assert named <= metrics.keys()
    assert metrics["recall_10"] > metrics["popularity_recall_10"]
    assert metrics["warm_items_recall_10"] == metrics["recall_10"], "all items are warm"
    assert metrics["ranked_users"] == 150 - _without_liked()
    written = pq.read_table(tmp_path / "e" / "predictions" / "model.parquet")
    left = written["rating"].to_numpy().astype(np.float64) - written["prediction"].to_numpy()
    assert np.sqrt(np.square(left).mean()) == pytest.approx(metrics["rmse"])
    report = (tmp_path / "e" / "report.html").read_text()
    assert "Without content" in report
    assert "Biased MF" in report
    assert "training has seen what came after the test rows" in report
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["rmse"] == metrics["rmse"]


def _without_liked() -> int:
    """Users of `tastes` without a liked test row."""
    given = tastes()
    return 150 - len(np.unique(given.users[(given.split == 2) & (given.labels == 1)]))


def test_a_model_folder_holds_all_that_it_needs(edges: dict[str, Path]) -> None:
    manifest = read_manifest(edges["model"], "model")
    assert manifest.inputs.keys() == {"dataset", *CONTENT}
    assert manifest.config["monitor"] == "neg_rmse"
    assert manifest.config["rows"]["moments"]
    assert not manifest.config["rows"]["popularity"]
    assert manifest.statistics["valid_neg_rmse"] < 0
    model = load_recommender(edges["model"])
    assert [one.key for one in model.fields.number_fields] == ["item_age", *(one.key for one in FIELDS)]
    assert read_manifest(edges["without_content"], "model").inputs.keys() == {"dataset"}


def test_the_same_run_writes_the_same_artifact(edges: dict[str, Path], tmp_path: Path) -> None:
    again = finetune(tmp_path / "again", edges)
    assert read_manifest(again, "model").digest == read_manifest(edges["model"], "model").digest


def test_clicks_have_a_head_of_their_own(edges: dict[str, Path], tmp_path: Path) -> None:
    model = finetune(tmp_path / "model", edges, head="click")
    given = {edge: edges[edge] for edge in ("dataset", *CONTENT)}
    metrics = run_stage("evaluate", {"split": "random"}, **given, model=model, evaluation=tmp_path / "e")
    assert metrics["auc"] > 0.8
    assert metrics["precision"] > 0.75
    assert metrics["recall_10"] > metrics["popularity_recall_10"]
    assert "rmse" not in metrics
    assert (tmp_path / "e" / "roc.json").is_file()


def test_what_does_not_fit_is_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs image_embeddings, text_embeddings; give --image_embeddings"):
        finetune(tmp_path / "m", {"dataset": edges["dataset"]})
    given = {edge: edges[edge] for edge in ("dataset", *CONTENT, "model")}
    with pytest.raises(ConfigError, match=r"recommender.without has no 'content'"):
        run_stage("evaluate", {"split": "random"}, **given, without_content=edges["model"], evaluation=tmp_path / "e")
    with pytest.raises(ConfigError, match="primary_metric=auc is not measured of models of"):
        run_stage("evaluate", {"split": "random", "primary_metric": "auc"}, **given, evaluation=tmp_path / "e")
    rating, click = (resolve(Config, {"recommender": {"name": "dlrm", "head": head}}) for head in ("rating", "click"))
    assert (rating.monitor, click.monitor) == ("neg_rmse", "auc")
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "e").exists()
