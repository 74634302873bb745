import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from modalrec.encoders.open_clip import OpenCLIP, OpenCLIPConfig
from modalrec.errors import ConfigError, UpstreamError
from tests.encoders.conftest import loaded
from tests.encoders.small import OPEN_CLIP, folder_of

PICTURE = Image.radial_gradient("L").convert("RGB").resize((60, 90))


@pytest.fixture(scope="module")
def architecture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The small architecture under a name that open_clip knows, for files of weights alone."""
    path = tmp_path_factory.mktemp("configs") / "modalrec-tiny.json"
    path.write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(path)
    yield path.stem
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._rescan_model_configs()


def test_same_vectors_as_the_librarys_own() -> None:
    name = f"local-dir:{folder_of('open_clip')}"
    model, transform = open_clip.create_model_from_pretrained(name)
    model.eval()
    expected = {
        "text": model.encode_text(open_clip.get_tokenizer(name)(["a love story"]), normalize=True),
        "image": model.encode_image(transform(PICTURE)[None], normalize=True),
    }
    texts, pictures = (loaded("open_clip", modality) for modality in ("text", "image"))
    np.testing.assert_allclose(texts.encode_texts(["a love story"]), expected["text"].detach(), atol=1e-6)
    np.testing.assert_allclose(pictures.encode_images([PICTURE]), expected["image"].detach(), atol=1e-6)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_file_of_weights_with_its_architecture(architecture: str, suffix: str, tmp_path: Path) -> None:
    file = folder_of("open_clip") / "open_clip_model.safetensors"
    if suffix == "pt":
        state, file = load_file(file), tmp_path / "epoch_9.pt"
        torch.save({"epoch": 9, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, file)
    encoder = OpenCLIP(OpenCLIPConfig(model=str(file), architecture=architecture), "cpu", "text")
    np.testing.assert_array_equal(encoder.encode_texts(["a b"]), loaded("open_clip", "text").encode_texts(["a b"]))


@pytest.mark.parametrize(
    ("architecture_given", "hint"), [("", "such as ViT-B-32"), ("ViT-B32", "did you mean ViT-B-32")]
)
def test_a_file_of_an_unknown_architecture_is_refused(architecture_given: str, hint: str) -> None:
    file = folder_of("open_clip") / "open_clip_model.safetensors"
    with pytest.raises(ConfigError, match=rf"embed_image\.encoder\.architecture: .* file of weights.*{hint}"):
        OpenCLIP(OpenCLIPConfig(model=str(file), architecture=architecture_given), "cpu", "image")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """The library alone would go on with random numbers."""
    shutil.copy(folder_of("open_clip") / "open_clip_config.json", tmp_path)
    with pytest.raises(UpstreamError, match="cannot be loaded as a CLIP model"):
        OpenCLIP(OpenCLIPConfig(model=str(tmp_path)), "cpu", "text")


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_is_not_run(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "harm.pt").write_bytes(pickle.dumps({"state_dict": Harm(tmp_path / "ran")}, protocol=2))
    torch.save({"state_dict": Harm(tmp_path / "ran")}, tmp_path / "saved.pt")
    for name in ("harm.pt", "saved.pt"):
        with pytest.raises(UpstreamError, match="cannot be loaded as a CLIP model"):
            OpenCLIP(OpenCLIPConfig(model=str(tmp_path / name), architecture=architecture), "cpu", "text")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("modality", ["text", "image"])
def test_half_precision_is_near(modality: str) -> None:
    half = OpenCLIP(OpenCLIPConfig(model=str(folder_of("open_clip"))), "cpu", modality, "bfloat16")
    whole = loaded("open_clip", modality)
    first, second = (
        e.encode_texts(["a love story"]) if modality == "text" else e.encode_images([PICTURE]) for e in (whole, half)
    )
    assert 0 < np.abs(first - second).max() < 0.05


def test_vectors_keep_their_length_where_asked() -> None:
    config = OpenCLIPConfig(model=str(folder_of("open_clip")), normalise=False)
    raw = OpenCLIP(config, "cpu", "image").encode_images([PICTURE])
    assert abs(np.linalg.norm(raw) - 1) > 0.01
    whole = loaded("open_clip", "image").encode_images([PICTURE])
    np.testing.assert_allclose(raw / np.linalg.norm(raw), whole, atol=1e-6)
