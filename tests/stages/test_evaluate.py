"""The stage `evaluate` on models that the stages trained."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.schemas import RANKS, TOP_K, read_table
from modalrec.errors import ArtifactError, ConfigError
from modalrec.stages import load_stage
from tests.raw import write_tables
from tests.stages import trained

SETTINGS = {"list_length": 12, "cutoffs": [1, 3, 10], "gallery_users": 4, "beam_sample": 5, "ties": "report"}
ROWS = {"model", "pretrained", "scratch", "shuffled", "popularity", "item_knn", "content_nn", "item_knn_content"}
TEMPORAL = {"temporal", "temporal_popularity", "temporal_item_knn", "temporal_item_knn_content"}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return trained.train_all(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def evaluated(edges: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    return folder, trained.run_stage("evaluate", SETTINGS, **edges, evaluation=folder)


def test_every_row_is_measured_under_its_name(evaluated: tuple[Path, dict[str, float]]) -> None:
    folder, metrics = evaluated
    for row in ROWS | TEMPORAL:
        prefix = "" if row == "model" else f"{row}_"
        assert 0 <= metrics[f"{prefix}recall_10_low"] <= metrics[f"{prefix}recall_10"] <= 1
        assert (folder / "ranks" / f"{row}.parquet").is_file()
    assert metrics["users"] == trained.USERS
    assert json.loads((folder / "metrics.json").read_bytes()) == metrics
    assert read_manifest(folder, "evaluation").statistics == metrics


def test_kept_lists_and_ranks_give_the_metrics(evaluated: tuple[Path, dict[str, float]]) -> None:
    folder, metrics = evaluated
    ranks = read_table(folder / "ranks" / "model.parquet", RANKS).to_pandas()
    lists = read_table(folder / "top_k" / "model.parquet", TOP_K).to_pandas()
    listed = [target in items[:3] for target, items in zip(ranks["target"], lists["items"], strict=True)]
    assert np.mean(listed) == pytest.approx(metrics["recall_3"])
    assert (ranks["greater"] + ranks["equal"] < 3).mean() == pytest.approx(metrics["recall_3"])


def test_beams_wider_than_the_catalogue_find_everything(evaluated: tuple[Path, dict[str, float]]) -> None:
    assert evaluated[1]["beam_agreement_10"] == 1.0


def test_lists_of_all_items_rank_as_all_scores_do(
    edges: dict[str, Path], evaluated: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    exhaustive = trained.run_stage("evaluate", SETTINGS | {"exhaustive": True}, **edges, evaluation=tmp_path / "e")
    assert "beam_agreement_10" not in exhaustive
    same = ["recall_1", "recall_3", "ndcg_3", "coverage_3", "temporal_recall_3"]
    assert [exhaustive[name] for name in same] == pytest.approx([evaluated[1][name] for name in same])


def test_a_second_run_has_the_same_digest(
    edges: dict[str, Path], evaluated: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    """Also where the model took longer, as the report says."""
    slow = shutil.copytree(edges["model"], tmp_path / "model")
    manifest = json.loads((slow / "manifest.json").read_bytes())
    (slow / "manifest.json").write_text(json.dumps(manifest | {"cost": {"seconds": 7385.0}}))
    trained.run_stage("evaluate", SETTINGS, **edges | {"model": slow}, evaluation=tmp_path / "again")
    assert "2 h 3 min" in (tmp_path / "again" / "report.html").read_text()
    digests = [read_manifest(folder, "evaluation").digest for folder in (evaluated[0], tmp_path / "again")]
    assert digests[0] == digests[1]


def test_batch_size_changes_no_number(edges: dict[str, Path], tmp_path: Path) -> None:
    given = {name: edges[name] for name in ("dataset", "model")}
    settings = [SETTINGS | {"batch_size": size, "beam_sample": 0} for size in (1, 512)]
    one, many = (
        trained.run_stage("evaluate", chosen, **given, evaluation=tmp_path / str(chosen["batch_size"]))
        for chosen in settings
    )
    assert one == many


def test_controls_of_zero_epochs_are_left_out(edges: dict[str, Path], tmp_path: Path) -> None:
    untrained = trained.train(tmp_path / "untrained", edges["dataset"], edges["codes"], epochs=0)
    given = {"dataset": edges["dataset"], "model": edges["model"], "scratch": untrained}
    metrics = trained.run_stage("evaluate", SETTINGS, **given, evaluation=tmp_path / "evaluation")
    assert "recall_10" in metrics
    assert not [name for name in metrics if name.startswith("scratch")]
    assert "From scratch" not in (tmp_path / "evaluation" / "report.html").read_text()


def test_codes_that_are_not_the_models_are_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    other = trained.code(tmp_path, edges["dataset"], seed=1)
    given = {"dataset": edges["dataset"], "model": edges["model"], "codes": other, "evaluation": tmp_path / "e"}
    with pytest.raises(ArtifactError, match="`model` was trained on other codes"):
        trained.run_stage("evaluate", SETTINGS, **given)


def test_model_of_another_dataset_is_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    other = trained.ingest(tmp_path, min_user_events=4)
    with pytest.raises(ArtifactError, match="`model` was trained on other dataset"):
        trained.run_stage("evaluate", SETTINGS, dataset=other, model=edges["model"], evaluation=tmp_path / "e")
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("edge", "model", "message"),
    [
        ("model", "temporal", "trained on the split 'temporal' and would be measured on 'leave_one_out'"),
        ("temporal", "scratch", "trained on the split 'leave_one_out' and would be measured on 'temporal'"),
        ("scratch", "shuffled", "only the edge `shuffled` takes such a model"),
        ("shuffled", "scratch", "given as `shuffled` and trained with shuffle_histories=False"),
    ],
)
def test_model_on_the_wrong_edge_is_refused(
    edge: str, model: str, message: str, edges: dict[str, Path], tmp_path: Path
) -> None:
    given = {"dataset": edges["dataset"], "model": edges["model"]} | {edge: edges[model]}
    with pytest.raises(ConfigError, match=message):
        trained.run_stage("evaluate", SETTINGS, **given, evaluation=tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_damaged_model_is_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    model = trained.train(tmp_path / "damaged", edges["dataset"], edges["codes"])
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ArtifactError, match=r"model\.safetensors: damaged"):
        trained.run_stage("evaluate", SETTINGS, dataset=edges["dataset"], model=model, evaluation=tmp_path / "e")


def test_cutoff_beyond_the_lists_is_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    given = {"dataset": edges["dataset"], "model": edges["model"], "evaluation": tmp_path / "e"}
    with pytest.raises(ConfigError, match="list_length=5 is below the cut-off 10"):
        trained.run_stage("evaluate", SETTINGS | {"list_length": 5}, **given)


def test_cutoffs_are_sorted_and_positive() -> None:
    config = load_stage("evaluate")[1]
    assert config.model_validate({"cutoffs": [10, 1, 10]}).cutoffs == (1, 10)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="at least one cut-off"):
        config.model_validate({"cutoffs": [0]})


def test_a_baseline_that_is_not_asked_for_costs_nothing(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("made for nothing")

    for name in ("ItemKNN", "ContentNN"):
        monkeypatch.setattr(f"modalrec.stages.evaluate.{name}", refuse)
    settings = {**SETTINGS, "baselines": ["popularity"]}
    metrics = trained.run_stage("evaluate", settings, **edges, evaluation=tmp_path / "evaluation")
    assert "popularity_recall_10" in metrics
    assert "item_knn_recall_10" not in metrics


def test_new_items_have_metrics_and_a_table_of_their_own(tmp_path: Path) -> None:
    split = {"split": "cold_items"}
    rng = np.random.default_rng(0)
    films = [f"{user},f{film},{time}" for user in range(40) for time, film in enumerate(rng.permutation(12)[:6])]
    items = "\n".join(["item_id,title", *(f"f{film},Film {film}" for film in range(12))])
    write_tables(tmp_path / "raw", items, "\n".join(["user_id,item_id,timestamp", *films]))
    dataset = tmp_path / "dataset"
    chosen = {"splits": ["cold_items"], "cold_share": 0.25}
    trained.run_stage("ingest", chosen, source=tmp_path / "raw", dataset=dataset)
    facts = read_manifest(dataset, "dataset").statistics
    assert facts["cold_items_held_out_items"] == 3
    assert facts["cold_items_test_unseen_items"] > 0
    settings = {"recommender": {"name": "sasrec", "width": 8}, "training": {"epochs": 1}, **split}
    trained.run_stage("finetune", settings, dataset=dataset, model=tmp_path / "model")
    edges = {"dataset": dataset, "model": tmp_path / "model", "evaluation": tmp_path / "evaluation"}
    metrics = trained.run_stage("evaluate", SETTINGS | split, **edges)
    assert metrics["cold_predictions"] == facts["cold_items_test_unseen_items"]
    assert metrics["cold_predictions"] + metrics["warm_predictions"] == metrics["predictions"]
    assert metrics["popularity_cold_recall_3"] == 0 < metrics["popularity_warm_recall_3"]
    parts = [metrics[f"{kind}_predictions"] * metrics[f"{kind}_ndcg_10"] for kind in ("warm", "cold")]
    assert sum(parts) == pytest.approx(metrics["predictions"] * metrics["ndcg_10"])
    assert "Warm and cold items" in (tmp_path / "evaluation" / "report.html").read_text()
