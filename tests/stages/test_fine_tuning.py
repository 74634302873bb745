"""The last layers of an encoder are trained with DLRM, over what the layers below made of each item once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from modalrec.encoders.huggingface import HuggingFace
from modalrec.errors import ArtifactError
from modalrec.recommenders import load_recommender
from tests.encoders.small import CORPUS, folder_of
from tests.stages.small import write_embeddings
from tests.stages.trained import FILMS, ingest, run_stage

DLRM = {
    "name": "dlrm",
    "width": 4,
    "bottom": [4],
    "top": [8],
    "dropout": 0.0,
    "finetune_rate": 1.0,
    "without": ["image"],
}
TRAINING = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fine_tuning")
    lines = [f'f{film},"{CORPUS[film % 4]} {film}"' for film in range(FILMS - 1)]
    items = "\n".join(["item_id,title", *lines, f"f{FILMS - 1},"]) + "\n"
    dataset = ingest(folder, items, splits=["random"], label={"at_least": 4}, valid_share=0.2, test_share=0.2)
    encoder = {"name": "huggingface", "model": str(folder_of("bert")), "pooling": "cls"}
    run_stage("embed_text", {"encoder": encoder}, dataset=dataset, text_embeddings=folder / "texts")
    return {"dataset": dataset, "text_embeddings": folder / "texts"}


def finetune(target: Path, edges: dict[str, Path], layers: int, epochs: int = 2, **settings: Any) -> None:
    chosen = {"recommender": {**DLRM, "finetune_layers": layers, **settings}, "split": "random"}
    run_stage("finetune", chosen | {"training": {**TRAINING, "epochs": epochs}}, **edges, model=target)


def test_the_last_layer_learns_and_the_model_serves_without_it(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    states = HuggingFace.states

    def counted(self: HuggingFace, contents: list[Any], below: int) -> list[torch.Tensor]:
        seen.extend([below] * len(contents))
        return states(self, contents, below)

    monkeypatch.setattr(HuggingFace, "states", counted)
    rates = {"still": 1e-9, "trained": 1.0}
    for name, rate in rates.items():
        finetune(tmp_path / name, edges, 1, finetune_rate=rate)
    assert seen == [1] * (FILMS - 1) * len(rates), "each text went through the layer below once, whatever the epochs"
    still, trained = (load_recommender(tmp_path / name).modalities["text"].projected for name in rates)
    assert (still - trained).abs().max() > 0.01
    finetune(tmp_path / "frozen", edges, 0)
    kept, usual = (load_file(tmp_path / name / "model.safetensors").keys() for name in ("trained", "frozen"))
    assert kept == usual, "no layer of the encoder is kept"


def test_untrained_layers_give_what_frozen_vectors_do(edges: dict[str, Path], tmp_path: Path) -> None:
    for layers in (0, 2):
        finetune(tmp_path / str(layers), edges, layers, epochs=0)
    frozen, whole = (load_recommender(tmp_path / name).modalities["text"].projected.numpy() for name in ("0", "2"))
    np.testing.assert_allclose(whole, frozen, atol=0.01)


def test_vectors_that_are_not_the_encoders_are_refused(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"f{film}" for film in range(FILMS)]
    vectors_NV = np.eye(FILMS, 32, dtype=np.float32)
    foreign = {**edges, "text_embeddings": write_embeddings(tmp_path / "texts", vectors_NV, item_ids=ids)}
    with pytest.raises(ArtifactError, match="does not say which encoder made it"):
        finetune(tmp_path / "model", foreign, 1)
    states = HuggingFace.states
    monkeypatch.setattr(HuggingFace, "states", lambda *given: [-state for state in states(*given)])
    with pytest.raises(ArtifactError, match=r"other vectors than the encoder gives .* set finetune_layers=0"):
        finetune(tmp_path / "model", edges, 1)
