"""What a component does with its stage: configuration in, digest and metrics out, errors as messages."""

import json
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl

from components.artifacts import ModalrecDataset
from components.execute import CONFIGS, PARTS, RECOMMENDERS, configure_stages, execute, log_metrics, log_roc
from modalrec.artifacts import read_manifest
from modalrec.evaluation.ctr import roc

RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{movie},4.0,{1_000_000 + 10 * user + movie}\n" for user in range(1, 7) for movie in range(1, 7)
)
MOVIES = "movieId,title,genres\n" + "".join(f"{movie},Film {movie} (1990),Drama\n" for movie in range(1, 7))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "ratings.csv").write_text(RATINGS)
    (folder / "movies.csv").write_text(MOVIES)
    return folder


def artifacts(folder: Path) -> tuple[ModalrecDataset, dsl.Metrics]:
    return ModalrecDataset(uri=str(folder / "dataset")), dsl.Metrics(uri=str(folder / "metrics"))


def test_the_artifact_carries_its_digest_and_the_numbers_are_written(films: Path, tmp_path: Path) -> None:
    dataset, metrics = artifacts(tmp_path)
    execute("ingest", "{}", 0, inputs={"source": str(films)}, outputs={"dataset": dataset}, metrics=metrics)
    manifest = read_manifest(Path(dataset.path), "dataset")
    assert dataset.metadata == {"kind": "dataset", "digest": manifest.digest}
    numbers = json.loads(Path(metrics.path).read_text())
    assert numbers == metrics.metadata
    assert numbers["interactions"] == 36


def test_a_user_error_is_a_message_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, metrics = artifacts(tmp_path)
    for config, code, message in (("{}", 3, "nowhere"), ('{"splitz": 1}', 2, "did you mean splits")):
        inputs = {"source": str(tmp_path / "nowhere")}
        with pytest.raises(SystemExit) as caught:
            execute("ingest", config, 0, inputs=inputs, outputs={"dataset": dataset}, metrics=metrics)
        assert caught.value.code == code
        shown = capsys.readouterr().err
        assert message in shown
        assert all(line.startswith("error: ") for line in shown.splitlines())
    assert not Path(dataset.path).exists()


def test_configure_gives_each_stage_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"ingest": {"positive_rating": "null"}, "finetune": {"training": {"epochs": 3.0}}}
    texts = configure_stages("tiny", settings, True, [])
    assert texts._fields == (*CONFIGS, *PARTS, RECOMMENDERS)
    assert (texts.text_parts, texts.image_parts) == ([0], [0])
    assert json.loads(texts.finetune)["training"]["epochs"] == 3
    assert json.loads(texts.ingest)["positive_rating"] is None
    without = configure_stages("tiny", {}, True, [])
    changed = {name for name in CONFIGS if getattr(texts, name) != getattr(without, name)}
    assert changed == {"finetune", "scratch", "finetune_shuffled", "finetune_temporal"}
    with pytest.raises(SystemExit) as caught:
        configure_stages("tiny", {"quantise": {}}, True, [])
    assert caught.value.code == 2
    assert "did you mean quantize" in capsys.readouterr().err


def test_configure_counts_the_parts_of_embeddings() -> None:
    given = configure_stages("tiny", {"embed_text.parts": 3}, True, [])
    assert (given.text_parts, given.image_parts) == ([0, 1, 2], [0])
    assert json.loads(given.embed_text)["parts"] == 3


def test_stages_that_a_pipeline_lacks_get_no_configuration() -> None:
    texts = configure_stages("session", {}, False, ["ingest", "finetune", "evaluate"])
    assert {name for name in CONFIGS if getattr(texts, name)} == {"ingest", "finetune", "evaluate"}
    assert json.loads(texts.finetune)["recommender"]["name"] == "gru4rec"


def test_metrics_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    log_metrics(metrics, {"good": 1.5, "bad": float("nan")})
    assert json.loads((tmp_path / "metrics").read_text()) == {"good": 1.5} == metrics.metadata


def test_the_curve_of_a_model_of_clicks_is_shown_in_kubeflow(tmp_path: Path) -> None:
    curve = roc(np.array([1, 0, 1, 0], np.int8), np.array([0.9, 0.8, 0.8, 0.1], np.float32))
    (tmp_path / "roc.json").write_text(json.dumps(vars(curve)))
    shown = dsl.ClassificationMetrics(uri=str(tmp_path / "roc"))
    log_roc(shown, tmp_path / "roc.json")
    points = shown.metadata["confidenceMetrics"]
    assert [(point["falsePositiveRate"], point["recall"]) for point in points] == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]
    assert [point["confidenceThreshold"] for point in points] == pytest.approx([0.9, 0.9, 0.8, 0.1])
    assert json.loads((tmp_path / "roc").read_text()) == vars(curve)
    others = dsl.ClassificationMetrics(uri=str(tmp_path / "none"))
    log_roc(others, tmp_path / "no_such_file")
    assert not others.metadata
    assert json.loads((tmp_path / "none").read_text()) == {}
