"""The card of a model and TensorBoard's events: made from the manifest, beside the files that it names."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from modalrec.artifacts import Manifest, read_manifest, write_artifact
from modalrec.artifacts.files import write_json
from modalrec.config import Config

CURVES = [{"epoch": 1, "loss": 2.0, "ndcg_10": 0.1}, {"epoch": 2, "loss": 1.5, "ndcg_10": float("inf")}]


class Settings(Config):
    recommender: dict[str, Any] = {"name": "sasrec", "width": 8}
    split: str = "leave_one_out"


def write(folder: Path, kind: str = "model", inputs: dict[str, Manifest] | None = None) -> Manifest:
    with write_artifact(folder, kind, stage="finetune", config=Settings(), seed=7, inputs=inputs or {}) as work:
        (work.folder / "curves.json").write_text(str(CURVES).replace("'", '"').replace("inf", "null"))
        work.statistics |= {"valid_ndcg_10": 0.1234, "best_epoch": 2, "parameters": 12345, "epochs": 2}
    return read_manifest(folder, kind)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    with write_artifact(tmp_path / "dataset", "dataset", stage="ingest", config=Config(), seed=0, inputs={}) as work:
        write_json(work.folder / "x.json", {})
        work.statistics |= {"users": 3, "items": 8, "source_files": {"items.csv": {}}}
    write(tmp_path / "model", inputs={"dataset": read_manifest(tmp_path / "dataset", "dataset")})
    return tmp_path / "model"


def test_a_model_has_a_card(model: Path) -> None:
    _, front, body = (model / "README.md").read_text().split("---\n", 2)
    manifest = read_manifest(model, "model")
    read = yaml.safe_load(front)
    assert read["library_name"] == "modalrec"
    assert read["tags"] == ["recommendation", "sasrec"]
    assert read["modalrec"]["digest"] == manifest.digest
    assert read["modalrec"]["seed"] == 7
    for said in ("# sasrec", "| items | 8 |", "| ndcg_10 | 0.1234 |", "| parameters | 12,345 |", "`items.csv`"):
        assert said in body
    assert "| ingest | dataset |" in body
    assert yaml.safe_load(body.partition("```yaml\n")[2].partition("```")[0]) == manifest.config


def test_a_model_that_got_new_items_is_named_after_the_one_before(model: Path, tmp_path: Path) -> None:
    given = {"model": read_manifest(model, "model")}
    with write_artifact(tmp_path / "new", "model", stage="encode_items", config=Config(), seed=0, inputs=given) as work:
        write_json(work.folder / "x.json", {})
    assert "# sasrec, by `encode_items`" in (tmp_path / "new" / "README.md").read_text()


def test_tensorboard_reads_the_curves(model: Path) -> None:
    events = EventAccumulator(str(model))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("curves/loss")]
    assert losses == [(1, 2.0), (2, 1.5)]
    assert [event.step for event in events.Scalars("curves/ndcg_10")] == [1]
    assert events.Scalars("statistics/valid_ndcg_10")[0].value == pytest.approx(0.1234)
    (text,) = events.Tensors("settings/text_summary")
    assert b"sasrec" in text.tensor_proto.string_val[0]


def test_neither_is_part_of_the_identity(model: Path, tmp_path: Path) -> None:
    manifest = read_manifest(model, "model")
    assert list(manifest.files) == ["curves.json"]
    inputs = {"dataset": read_manifest(tmp_path / "dataset", "dataset")}
    assert write(tmp_path / "again", inputs=inputs).digest == manifest.digest
    for path in [*model.glob("events.out.*"), model / "README.md"]:
        path.unlink()
    assert read_manifest(model, "model").digest == manifest.digest


def test_what_was_not_trained_has_no_events(model: Path) -> None:
    names = {path.name for path in (model.parent / "dataset").iterdir()}
    assert names == {"manifest.json", "x.json"}
    assert any(path.name.startswith("events.out.tfevents") for path in model.iterdir())
