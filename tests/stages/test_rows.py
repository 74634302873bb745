"""Models of rows through their stages: finetune, and evaluate beside ablations and baselines."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.codes import CodeGroup, write_code_groups
from modalrec.config import Config
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.evaluation.ctr import auc
from tests.rows import clicks, write_rows
from tests.stages.trained import run_stage

DIN = {"name": "din", "width": 8, "attention": [16], "layers": [32], "dropout": 0.0}
TRAINING = {"epochs": 6, "batch_size": 64, "learning_rate": 3e-3}


def finetune(target: Path, dataset: Path, codes: Path | None = None, **settings: Any) -> Path:
    without = [] if codes else ["codes"]
    recommender = {**DIN, "without": [*without, *settings.pop("without", [])], **settings.pop("recommender", {})}
    chosen = {"recommender": recommender, "split": "random", "training": TRAINING, **settings}
    edges = {"dataset": dataset, "model": target} | ({"codes": codes} if codes else {})
    run_stage("finetune", chosen, **edges)
    return target


def code(folder: Path, dataset: Path) -> Path:
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    inputs = {"dataset": read_manifest(dataset, "dataset")}
    groups = {"text": CodeGroup(np.arange(len(ids), dtype=np.int32)[:, None] % np.array([4, 8], np.int32), (4, 8))}
    with write_artifact(folder, "codes", stage="quantize", config=Config(), seed=0, inputs=inputs) as work:
        write_code_groups(work.folder, ids, groups)
    return folder


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("rows")
    dataset = clicks(folder / "dataset")
    codes = code(folder / "codes", dataset)
    return {
        "dataset": dataset,
        "codes": codes,
        "model": finetune(folder / "model", dataset, codes),
        "without_codes": finetune(folder / "without_codes", dataset),
        "without_popularity": finetune(folder / "without_popularity", dataset, codes, without=["popularity"]),
    }


def test_a_model_is_measured_beside_its_ablations_and_baselines(edges: dict[str, Path], tmp_path: Path) -> None:
    metrics = run_stage("evaluate", {"split": "random", "primary_metric": "auc"}, **edges, evaluation=tmp_path / "e")
    assert metrics["auc"] > 0.8 > 0.6 > metrics["item_rate_auc"]
    assert metrics["auc_low"] < metrics["auc"] < metrics["auc_high"]
    assert metrics["log_loss"] < metrics["item_rate_log_loss"]
    assert metrics["primary_metric"] == metrics["auc"]
    assert {"without_codes_auc", "without_popularity_user_auc", "popularity_auc"} <= metrics.keys()
    assert "popularity_log_loss" not in metrics
    written = pq.read_table(tmp_path / "e" / "predictions" / "model.parquet")
    assert auc(written["label"].to_numpy(), written["prediction"].to_numpy()) == metrics["auc"]
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["auc"] == metrics["auc"]
    report = (tmp_path / "e" / "report.html").read_text()
    assert "Without codes" in report
    assert "training has seen what came after the test rows" in report
    curve = json.loads((tmp_path / "e" / "roc.json").read_text())
    assert curve["true_positives"][-1] == curve["false_positives"][-1] == 1
    assert not (tmp_path / "e" / "prediction.csv").exists()


def test_a_model_folder_holds_all_that_it_needs_and_says_which_codes(edges: dict[str, Path]) -> None:
    manifest = read_manifest(edges["model"], "model")
    assert manifest.inputs.keys() == {"dataset", "codes"}
    assert manifest.statistics["valid_auc"] > 0.8
    assert manifest.config["monitor"] == "auc"
    assert read_manifest(edges["without_codes"], "model").inputs.keys() == {"dataset"}
    names = pq.read_schema(edges["model"] / "items.parquet").names
    assert {"item_id", "title", "item_genre", "item_tags", "item_age", "item_codes_text"} <= set(names)


def test_the_same_run_writes_the_same_artifact(edges: dict[str, Path], tmp_path: Path) -> None:
    again = finetune(tmp_path / "again", edges["dataset"], edges["codes"])
    assert read_manifest(again, "model").digest == read_manifest(edges["model"], "model").digest


def test_what_does_not_fit_is_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    both = {"dataset": edges["dataset"], "codes": edges["codes"]}
    target = {"evaluation": tmp_path / "e"}
    with pytest.raises(ConfigError, match=r"recommender\.without has no 'popularity'; train it with"):
        run_stage(
            "evaluate", {"split": "random"}, **both, model=edges["model"], without_popularity=edges["model"], **target
        )
    with pytest.raises(ConfigError, match="`scratch` is no edge for models of rows"):
        run_stage("evaluate", {"split": "random"}, **both, model=edges["model"], scratch=edges["model"], **target)
    with pytest.raises(ConfigError, match="split 'random' and would be measured on 'temporal'"):
        run_stage("evaluate", {"split": "temporal"}, **both, model=edges["model"], **target)
    with pytest.raises(ConfigError, match="primary_metric=recall_10 is not measured of models of rows"):
        run_stage(
            "evaluate", {"split": "random", "primary_metric": "recall_10"}, **both, model=edges["model"], **target
        )
    with pytest.raises(ConfigError, match="needs codes; give --codes"):
        finetune(tmp_path / "m", edges["dataset"], recommender={"without": []})
    with pytest.raises(ConfigError, match="learns from rows, which are not perturbed; leave pretrain out"):
        run_stage(
            "pretrain",
            {"recommender": {**DIN, "without": ["codes"]}, "split": "random"},
            dataset=edges["dataset"],
            pretrained=tmp_path / "p",
        )
    for settings, message in (
        ({"monitor": "ndcg_10"}, "monitor=ndcg_10 is not measured of din; take one of auc, user_auc"),
        ({"shuffle_histories": True}, "shuffle_histories: din learns from rows"),
        ({"without": ["item_gnre"]}, "item_gnre: no such field; the fields are event_likes_level, event_views_level"),
    ):
        with pytest.raises(ConfigError, match=message):
            finetune(tmp_path / "m", edges["dataset"], **settings)
    other = write_rows(tmp_path / "o", {"user": [0, 0], "item": [0, 1], "label": [1, 0]}, {"random": [0, 0]})
    with pytest.raises(ArtifactError, match="made for other items"):
        finetune(tmp_path / "m", other, edges["codes"])
    none = write_rows(tmp_path / "n", {"user": [0, 0], "item": [0, 1], "label": [1, 0]}, {"random": [1, 2]})
    with pytest.raises(DataError, match="no train row of the split random has a label"):
        finetune(tmp_path / "m", none)
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "e").exists()


def challenge(folder: Path, numbers: Callable[[int], int]) -> tuple[Path, Path]:
    """A dataset whose test rows have numbers and no labels, and a model of it."""
    rng = np.random.default_rng(0)
    n = 60
    part = np.repeat([0, 1, 2], n // 3)
    hidden = np.flatnonzero(part == 2)
    ids = {int(row): numbers(place) for place, row in enumerate(rng.permutation(hidden))}
    columns = {
        "user": np.arange(n),
        "item": np.arange(n) % 7,
        "label": [None if part[row] == 2 else row % 2 for row in range(n)],
        "history": [[row % 7, (row + 1) % 7][: row % 3] for row in range(n)],
        "row_id": [ids.get(row) for row in range(n)],
    }
    dataset = write_rows(folder / "dataset", columns, {"given": part})
    return dataset, finetune(folder / "model", dataset, split="given")


def test_hidden_rows_are_predicted_in_the_challenges_form_and_order(tmp_path: Path) -> None:
    dataset, model = challenge(tmp_path, lambda place: place)
    metrics = run_stage("evaluate", {"split": "given"}, dataset=dataset, model=model, evaluation=tmp_path / "e")
    assert (metrics["rows"], metrics["hidden_rows"]) == (20, 20)
    lines = [line.split(",") for line in (tmp_path / "e" / "prediction.csv").read_text().splitlines()]
    assert lines[0] == ["ID", "Task1&2"]
    assert [int(number) for number, _ in lines[1:]] == list(range(20))
    assert all(0 < float(said) < 1 for _, said in lines[1:])
    report = (tmp_path / "e" / "report.html").read_text()
    assert "The labels of all test rows are hidden" in report
    assert "nan" not in re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL)


@pytest.mark.parametrize(
    "number", [lambda place: min(place, 18), lambda place: place + (place > 4), lambda place: place + 2]
)
def test_a_number_that_is_missing_or_there_twice_is_refused(tmp_path: Path, number: Callable[[int], int]) -> None:
    dataset, model = challenge(tmp_path, number)
    with pytest.raises(DataError, match="a number is missing or there twice"):
        run_stage("evaluate", {"split": "given"}, dataset=dataset, model=model, evaluation=tmp_path / "e")
    assert not (tmp_path / "e").exists()
