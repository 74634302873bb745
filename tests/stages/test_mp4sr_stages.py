"""MP4SR through the stages: pre-trained, scored as it is, fine-tuned, and taken to another catalogue."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from modalrec.artifacts import read_manifest
from modalrec.data.sequences import Sequences
from modalrec.errors import ArtifactError, ConfigError
from tests.raw import histories, write_atomic
from tests.stages.trained import run_stage

MODEL = {"name": "mp4sr", "width": 8, "history": 8, "experts": 2}
TRAINING = {"epochs": 2, "batch_size": 8}
HASHING = {"name": "hashing", "dimension": 16}
WORDS = {"num_image_tokens": 2, "vocabulary": ["war", "film", "drama"], "encoder": HASHING}
EVALUATE = {"ties": "report", "bootstrap_samples": 100, "gallery_users": 0, "list_length": 20, "cutoffs": [5]}
Edges = dict[str, Path]


def make(folder: Path, users: int, films: int, dimension: int = 16) -> Edges:
    """A dataset with sentences and words."""
    names = ("dataset", "text_embeddings", "image_embeddings")
    edges = {name: folder / name for name in names}
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out"], "images": {"missing": "draw"}}
    run_stage(
        "ingest", chosen, source=write_atomic(folder / "raw", histories(users, films), films), dataset=edges[names[0]]
    )
    encoder = {**HASHING, "dimension": dimension}
    run_stage("embed_text", {"encoder": encoder, "max_sentences": 3}, **{name: edges[name] for name in names[:2]})
    run_stage(
        "embed_image",
        {"encoder": HASHING, "keywords": WORDS},
        dataset=edges[names[0]],
        image_embeddings=edges[names[2]],
    )
    return edges


def train(
    stage: str, target: Path, edges: Edges, epochs: int = 2, pretrained: Path | None = None, **model: Any
) -> Path:
    settings = {"recommender": {**MODEL, **model}, "training": {**TRAINING, "epochs": epochs}}
    given = {**edges, **({"pretrained": pretrained} if pretrained else {})}
    run_stage(stage, settings, **given, **{"pretrained" if stage == "pretrain" else "model": target})
    return target


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Edges:
    return make(tmp_path_factory.mktemp("films"), 12, 8)


@pytest.fixture(scope="module")
def pretrained(films: Edges, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("pretrain", tmp_path_factory.mktemp("models") / "pretrained", films)


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def test_pretrained_scores_alone_and_finetuning_adds_ids(films: Edges, pretrained: Path, tmp_path: Path) -> None:
    model = train("finetune", tmp_path / "model", films, pretrained=pretrained)
    metrics = run_stage(
        "evaluate", EVALUATE, **films, model=model, pretrained=pretrained, evaluation=tmp_path / "judged"
    )
    assert {"recall_5", "pretrained_recall_5", "content_nn_recall_5", "popularity_recall_5"} <= metrics.keys()
    assert not weights(pretrained)["known"].any()
    counts = Sequences.load(films["dataset"], "leave_one_out").train_counts()
    assert weights(model)["known"].bool().tolist() == (counts > 0).tolist()
    for name in ("ids.weight", "modalities.image.pooling.scores.0.weight", "modalities.text.adaptor.linear.weight"):
        assert not torch.equal(weights(model)[name], weights(pretrained)[name]), name
    assert read_manifest(model, "model").inputs.keys() == {*films, "pretrained"}


def test_another_catalogue_takes_all_over_but_what_belongs_to_items(pretrained: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 10, 13)
    moved = train("finetune", tmp_path / "moved", other, epochs=0, pretrained=pretrained)
    before, after = weights(pretrained), weights(moved)
    per_item = {"ids.weight", "known", "adapted.text", "adapted.image"}
    assert all(torch.equal(after[name], before[name]) for name in before.keys() - per_item)
    assert {tuple(after[name].shape[:1]) for name in per_item} == {(13,)}
    assert after["adapted.text"].any(1).all()
    assert len(after["adapted.text"].unique(dim=0)) > 8
    metrics = run_stage("evaluate", EVALUATE, **other, model=moved, evaluation=tmp_path / "zero_shot")
    assert 0 <= metrics["recall_5"] <= 1
    train("finetune", tmp_path / "tuned", other, epochs=1, pretrained=pretrained)


def test_vectors_of_another_encoder_are_refused(pretrained: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", 10, 13, dimension=12)
    with pytest.raises(ArtifactError, match=r"trained with other text_embeddings; .* embed these items with the same"):
        train("finetune", tmp_path / "moved", other, epochs=0, pretrained=pretrained)


def test_an_edge_that_is_missing_is_named(films: Edges, tmp_path: Path) -> None:
    without = {edge: place for edge, place in films.items() if edge != "image_embeddings"}
    with pytest.raises(ConfigError, match="mp4sr: needs image_embeddings; give --image_embeddings"):
        train("pretrain", tmp_path / "pretrained", without)
    train("pretrain", tmp_path / "text", without, modalities="text", epochs=1)
