import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from modalrec.encoders.timm import Timm, TimmConfig
from modalrec.errors import ConfigError, UpstreamError
from tests.encoders.conftest import loaded
from tests.encoders.small import folder_of
from tests.encoders.test_open_clip import Harm

PICTURE = Image.radial_gradient("L").convert("RGB").resize((60, 90))


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 with random weights and all its classes, as a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "resnet50.safetensors"
    save_file(timm.create_model("resnet50").state_dict(), path)
    return path


def test_same_vectors_as_the_librarys_own() -> None:
    model = timm.create_model(f"local-dir:{folder_of('timm')}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    expected = torch.nn.functional.normalize(model(transform(PICTURE)[None]), dim=1).detach()
    np.testing.assert_allclose(loaded("timm", "image").encode_images([PICTURE]), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_of_weights_with_its_architecture(resnet50: Path, suffix: str, tmp_path: Path) -> None:
    file = resnet50
    if suffix == "pth":
        file = tmp_path / "checkpoint.pth"
        torch.save({"state_dict": load_file(resnet50)}, file)
    encoder = Timm(TimmConfig(model=str(file), architecture="resnet50"), "cpu")
    assert encoder.dimension == 2048
    model = timm.create_model("resnet50", num_classes=0).eval()
    model.load_state_dict({name: t for name, t in load_file(resnet50).items() if not name.startswith("fc.")})
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    expected = torch.nn.functional.normalize(model(transform(PICTURE)[None]), dim=1).detach()
    np.testing.assert_allclose(encoder.encode_images([PICTURE]), expected, atol=1e-6)


def test_weights_that_would_be_random_are_refused(resnet50: Path, tmp_path: Path) -> None:
    weights = load_file(resnet50)
    weights.pop("layer4.2.conv3.weight")
    save_file(weights, tmp_path / "part.safetensors")
    with pytest.raises(UpstreamError, match=r"layer4\.2\.conv3\.weight"):
        Timm(TimmConfig(model=str(tmp_path / "part.safetensors"), architecture="resnet50"), "cpu")


def test_a_file_of_an_unknown_architecture_is_refused(resnet50: Path) -> None:
    with pytest.raises(ConfigError, match=r"embed_image\.encoder\.architecture: '' is not known .*such as resnet50"):
        Timm(TimmConfig(model=str(resnet50)), "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused(name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folder_of("timm"), tmp_path / "model"))
    for file in folder.iterdir():
        if file.name == name or (file.suffix == ".bin" and name.endswith("safetensors")):
            file.unlink()
    with pytest.raises(UpstreamError, match=r"needs config\.json and model\.safetensors"):
        Timm(TimmConfig(model=str(folder)), "cpu")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Harm(tmp_path / "ran")}, tmp_path / "harm.pth")
    with pytest.raises(UpstreamError, match="cannot be loaded as a model of timm"):
        Timm(TimmConfig(model=str(tmp_path / "harm.pth"), architecture="resnet50"), "cpu")
    assert not (tmp_path / "ran").exists()


def test_half_precision_is_near() -> None:
    half = Timm(TimmConfig(model=str(folder_of("timm"))), "cpu", "image", "bfloat16")
    assert 0 < np.abs(half.encode_images([PICTURE]) - loaded("timm", "image").encode_images([PICTURE])).max() < 0.05
