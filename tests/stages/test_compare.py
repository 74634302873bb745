"""The stage `compare` and its command, on evaluations that the stages made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.evaluation.kept import read_ranking
from modalrec.run import Run
from modalrec.stages.compare import Config, Evaluated, compare
from tests.cli.conftest import Cli, cli
from tests.stages import trained
from tests.stages.small import write_vectors

__all__ = ["cli"]

SETTINGS = {"list_length": 8, "cutoffs": [1, 3], "gallery_users": 0, "beam_sample": 0, "ties": "report"}
TITLE = "<script>alert(1)</script>"
ITEMS = "item_id,title\n" + "".join(f"f{n},{TITLE if n == 0 else n}\n" for n in range(trained.FILMS))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A dataset and two evaluations on it, one of a model with content."""
    folder = tmp_path_factory.mktemp("compare")
    dataset = trained.ingest(folder, ITEMS)
    codes, vectors = trained.code(folder, dataset), trained.embed(folder, dataset)
    found = {"dataset": dataset, "codes": codes}
    for name, content in (("ids", {}), ("content", {"content": "sum"})):
        recommender = {"name": "sasrec", "width": 8, "layers": 1, "heads": 2, "history": 8, **content}
        model = folder / f"model-{name}"
        given = {"embeddings": vectors} if content else {}
        trained.train(model, dataset, codes, epochs=2, recommender=recommender, **given)
        edges = {"dataset": dataset, "model": model, "embeddings": vectors}
        trained.run_stage("evaluate", SETTINGS, **edges, evaluation=folder / name)
        found[name] = folder / name
    return found


def run(made: dict[str, Path], target: Path, *names: str, **settings: Any) -> dict[str, float]:
    config = resolve(Config, {"k": 3, **settings})
    folders = [made[name] for name in names]
    return compare(folders, made["dataset"], target, config=config, run=Run("compare", quiet=True))


def test_every_row_has_the_metrics_of_its_evaluation(made: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(made, tmp_path / "c", "ids", "content", names=["plain", "content"])
    for name, row in (("ids", "plain"), ("content", "content")):
        measured = json.loads((made[name] / "metrics.json").read_bytes())
        for metric in ("recall_1", "recall_3", "ndcg_3", "coverage_3"):
            assert metrics[f"{row}_{metric}"] == measured[metric]
    measured = json.loads((made["ids"] / "metrics.json").read_bytes())
    assert metrics["item_knn_recall_3"] == measured["item_knn_recall_3"]
    manifest = read_manifest(tmp_path / "c", "comparison")
    assert manifest.statistics == metrics
    assert manifest.inputs["evaluation_1"] == read_manifest(made["content"], "evaluation").digest


def test_what_is_read_back_is_what_was_ranked(made: dict[str, Path]) -> None:
    ranking = read_ranking(made["ids"], "popularity", 8, trained.FILMS)
    assert len(ranking) == trained.USERS
    assert ranking.top.items.shape == ranking.top.scores.shape == (trained.USERS, 8)
    found = ranking.top.items == ranking.targets[:, None]
    assert np.array_equal(found.any(1), ranking.greater < (ranking.top.items >= 0).sum(1))
    with pytest.raises(ArtifactError, match=r"ranks/oracle\.parquet: is missing"):
        read_ranking(made["ids"], "oracle", 8, trained.FILMS)


def test_names_are_the_recommenders_with_what_tells_them_apart(made: dict[str, Path], tmp_path: Path) -> None:
    metrics = run(made, tmp_path / "c", "ids", "content")
    assert {"sasrec, content none_ndcg_3", "sasrec, content sum_ndcg_3"} <= metrics.keys()
    twice = run(made, tmp_path / "twice", "ids", "ids")
    assert {"sasrec, 1_ndcg_3", "sasrec, 2_ndcg_3"} <= twice.keys()


def test_the_report_shows_every_row_and_says_what_is_chance(made: dict[str, Path], tmp_path: Path) -> None:
    run(made, tmp_path / "c", "ids", "content", names=["plain", TITLE])
    html = (tmp_path / "c" / "report.html").read_text()
    assert "<script>" not in html
    for words in ("plain", "Item-KNN", "Popularity", "Quality and cost", "corrected by Holm", "of one seed"):
        assert words in html
    assert "\n| plain | 0." in (tmp_path / "c" / "summary.md").read_text()
    assert "<img" not in html
    assert "http" not in html.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"names": ["one"]}, ConfigError, r"names: 1 names \(one\) for 2 evaluations"),
        ({"names": ["one", "one"]}, ConfigError, "give each one its own"),
        ({"names": ["item_knn", "mine"]}, ConfigError, "item_knn stands for a row that every evaluation has"),
        ({"names": ["model", "mine"]}, ConfigError, "take another name"),
        ({"k": 10}, ConfigError, "k=10: not among the cut-offs 1, 3 that"),
    ],
)
def test_wrong_settings_are_refused(
    made: dict[str, Path], tmp_path: Path, settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(made, tmp_path / "c", "ids", "content", **settings)
    assert not (tmp_path / "c").exists()


def test_another_protocol_or_dataset_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    edges = {"dataset": made["dataset"], "model": made["ids"].parent / "model-ids"}
    trained.run_stage("evaluate", SETTINGS | {"mask_seen": False}, **edges, evaluation=tmp_path / "seen")
    with pytest.raises(ConfigError, match="seen: mask_seen=False, and True in"):
        run(made | {"seen": tmp_path / "seen"}, tmp_path / "c", "ids", "seen")
    final = trained.train(tmp_path / "final", made["dataset"], made["codes"], fit_on="train_and_valid")
    edges = {"dataset": made["dataset"], "model": final, "evaluation": tmp_path / "later"}
    trained.run_stage("evaluate", SETTINGS, **edges)
    with pytest.raises(ConfigError, match="later: trained with fit_on=train_and_valid, and with train in"):
        run(made | {"later": tmp_path / "later"}, tmp_path / "c", "ids", "later")
    other = trained.ingest(tmp_path, ITEMS, min_user_events=4)
    with pytest.raises(ArtifactError, match="measured on another dataset"):
        run(made | {"dataset": other}, tmp_path / "c", "ids")


def test_the_command_takes_names_with_the_places(made: dict[str, Path], tmp_path: Path, cli: Cli) -> None:
    """An equals sign inside a place is none."""
    (tmp_path / "x=y").symlink_to(made["content"])
    places = [f"a={made['ids']}", f"b={tmp_path / 'x=y'}"]
    edges = ["--dataset", str(made["dataset"]), "--comparison", str(tmp_path / "c")]
    code, _, errors = cli("compare", *places, *edges, "--set", "k=3", "--set", "metric=recall")
    assert code == 0, errors
    assert read_manifest(tmp_path / "c", "comparison").config["names"] == ["a", "b"]
    code, _, errors = cli(
        "compare", str(tmp_path / "x=y"), *edges[:2], "--comparison", str(tmp_path / "d"), "--set", "k=3"
    )
    assert code == 0, errors
    assert read_manifest(tmp_path / "d", "comparison").config["names"] == []


def test_what_no_item_has_is_not_known(made: dict[str, Path], tmp_path: Path) -> None:
    """Pictures that were skipped are among the model's ancestors, and it knows none."""
    ids = pq.read_table(made["dataset"] / "items.parquet")["item_id"].to_pylist()
    text = write_vectors(tmp_path / "text", ids, [True] * len(ids), 6)
    image = write_vectors(tmp_path / "image", ids, [False] * len(ids), 6)
    fused = tmp_path / "fused"
    trained.run_stage("fuse", {}, text_embeddings=text, image_embeddings=image, embeddings=fused)
    recommender = {"name": "sasrec", "width": 8, "layers": 1, "heads": 2, "history": 8, "content": "sum"}
    edges = {"dataset": made["dataset"], "codes": made["codes"], "embeddings": fused}
    model = trained.train(tmp_path / "model", **edges, recommender=recommender)
    trained.run_stage("evaluate", SETTINGS, dataset=made["dataset"], model=model, evaluation=tmp_path / "e")
    found = Evaluated(tmp_path / "e", read_manifest(tmp_path / "e", "evaluation"))
    assert found.modalities == ("text",)
