import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from modalrec.artifacts import read_manifest
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.recommenders import load_recommender
from modalrec.stages.configure import configure
from tests.raw import write_amazon, write_tables
from tests.stages.trained import FILMS, code, embed, ingest, run_stage, train, train_all


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return train_all(tmp_path_factory.mktemp("trained"))


def test_finetuning_starts_from_the_pretrained_weights(edges: dict[str, Path], tmp_path: Path) -> None:
    """No epoch changes no weight: what finetune writes then is what it started from."""
    started = train(tmp_path / "started", edges["dataset"], edges["codes"], epochs=0, pretrained=edges["pretrained"])
    random = train(tmp_path / "random", edges["dataset"], edges["codes"], epochs=0)
    pretrained, first, other = (
        load_file(folder / "model.safetensors") for folder in (edges["pretrained"], started, random)
    )
    assert all(torch.equal(first[name], pretrained[name]) for name in pretrained)
    assert any(not torch.equal(other[name], pretrained[name]) for name in pretrained)
    assert read_manifest(started, "model").inputs["pretrained"] == read_manifest(edges["pretrained"], "model").digest


def test_the_same_run_writes_the_same_artifact(edges: dict[str, Path], tmp_path: Path) -> None:
    again = train(tmp_path / "again", edges["dataset"], edges["codes"], epochs=3, pretrained=edges["pretrained"])
    assert read_manifest(again, "model").digest == read_manifest(edges["model"], "model").digest


def test_a_model_starts_only_from_one_of_the_same_shape(edges: dict[str, Path], tmp_path: Path) -> None:
    wider = {"name": "encoder_decoder", "width": 16, "layers": 1, "heads": 2, "history": 8, "beam_size": 20}
    with pytest.raises(ConfigError, match="differs in width 8 -> 16; pretrain with the same settings"):
        train(tmp_path / "m", edges["dataset"], edges["codes"], pretrained=edges["pretrained"], recommender=wider)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"split": "temporal"}, "split=leave_one_out, this is temporal"), ({"shuffle_histories": True}, "this is True")],
)
def test_weights_that_saw_another_part_of_the_data_are_no_start(
    edges: dict[str, Path], tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    """A temporal model that starts from a leave-one-out one has seen what comes after the cut."""
    with pytest.raises(ConfigError, match=message):
        train(tmp_path / "model", edges["dataset"], edges["codes"], pretrained=edges["pretrained"], **settings)


def test_weights_made_for_other_codes_are_no_start(edges: dict[str, Path], tmp_path: Path) -> None:
    """Codes of the same shape and another meaning would go unnoticed."""
    other = ingest(tmp_path, valid_share=0.2)
    with pytest.raises(ArtifactError, match="was trained with other codes; give the same --codes, quantize"):
        train(tmp_path / "m", other, code(tmp_path, other), pretrained=edges["pretrained"])
    again = code(tmp_path / "again", edges["dataset"], seed=1)
    with pytest.raises(ArtifactError, match="was trained with other codes"):
        train(tmp_path / "m", edges["dataset"], again, pretrained=edges["pretrained"])


def test_a_model_that_needs_codes_says_so(edges: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recommender encoder_decoder: needs codes; give --codes"):
        run_stage("finetune", {}, dataset=edges["dataset"], model=tmp_path / "model")


def test_codes_of_other_items_are_refused_with_the_first_that_lacks_one(edges: dict[str, Path], tmp_path: Path) -> None:
    source = write_amazon(tmp_path / "raw")
    run_stage("ingest", {"min_item_events": 1}, source=source, dataset=tmp_path / "other")
    with pytest.raises(ArtifactError, match=r"8 of the dataset's 8 items have no code \(first: f0\); run embed"):
        train(tmp_path / "model", edges["dataset"], code(tmp_path, tmp_path / "other"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "items.parquet"])
def test_a_damaged_model_is_refused_by_its_reader(edges: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(edges["model"], folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError, match=f"{name}: has .* bytes instead of .*; run `finetune` again"):
        read_manifest(folder, "model")
    with pytest.raises(ArtifactError, match="not a model of this version"):
        load_recommender(folder)


def test_weights_of_another_shape_are_refused(edges: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(edges["model"], folder)
    table = pq.read_table(folder / "items.parquet")
    pq.write_table(pa.table(table.slice(0, 3)), folder / "items.parquet")
    (folder / "config.json").write_text((folder / "config.json").read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(ArtifactError, match="size mismatch"):
        load_recommender(folder)


def test_without_times_the_temporal_control_trains_nothing_and_is_left_out(tmp_path: Path) -> None:
    """Order-only data has no temporal split; the same recipe runs on it, one row shorter."""
    source = write_amazon(tmp_path / "raw")
    configs = configure("tiny", {"ingest.min_item_events": 1})
    run_stage("ingest", configs["ingest"], source=source, dataset=tmp_path / "dataset")
    codes = code(tmp_path, tmp_path / "dataset")
    shared = {"dataset": tmp_path / "dataset", "codes": codes}
    run_stage("finetune", configs["finetune"], **shared, model=tmp_path / "model")
    numbers = run_stage("finetune", configs["finetune_temporal"], **shared, model=tmp_path / "temporal")
    assert numbers["epochs"] == 0
    models = {"model": tmp_path / "model", "temporal": tmp_path / "temporal"}
    settings = {"list_length": 3, "cutoffs": [1, 3], "ties": "report"}
    metrics = run_stage("evaluate", settings, **shared, **models, evaluation=tmp_path / "evaluation")
    assert "recall_3" in metrics
    assert not any(name.startswith("temporal") for name in metrics)
    asked = {**configs["finetune_temporal"], "skip_without_split": False}
    with pytest.raises(ConfigError, match="the dataset has only leave_one_out"):
        run_stage("finetune", asked, **shared, model=tmp_path / "refused")


def test_users_of_one_event_leave_nothing_to_train_on(tmp_path: Path) -> None:
    rows = "".join(f"u{user},a,{user}\n" for user in range(5))
    write_tables(tmp_path / "raw", "item_id,title\na,A\n", f"user_id,item_id,timestamp\n{rows}")
    lenient = {"min_user_events": 1, "min_item_events": 1, "splits": ["leave_one_out"]}
    run_stage("ingest", lenient, source=tmp_path / "raw", dataset=tmp_path / "dataset")
    with pytest.raises(DataError, match="no user has two train events in the split leave_one_out"):
        train(tmp_path / "model", tmp_path / "dataset", code(tmp_path, tmp_path / "dataset"))


def test_an_edge_that_the_model_does_not_use_is_left_alone(tmp_path: Path) -> None:
    """A recipe gives what there is; the model's identity and folder hold what it was made from."""
    dataset = ingest(tmp_path)
    codes, embeddings = code(tmp_path, dataset), embed(tmp_path, dataset)
    folder = tmp_path / "model"
    recommender = {"name": "sasrec", "width": 8, "history": 8}
    train(folder, dataset, codes, embeddings=embeddings, recommender=recommender)
    manifest = read_manifest(folder, "model")
    assert manifest.inputs.keys() == {"dataset"}
    items = load_recommender(folder).items
    assert items.codes is None
    assert items.content is None
    both = tmp_path / "both"
    train(both, dataset, codes, embeddings=embeddings, recommender={**recommender, "content": "sum"})
    assert read_manifest(both, "model").inputs.keys() == {"dataset", "embeddings"}
    assert load_recommender(both).items.content.shape == (FILMS, 6)
