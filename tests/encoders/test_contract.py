"""Every encoder that is found keeps the contracts, through the real libraries."""

import pytest
from PIL import Image

from modalrec import plugins
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.testing.configs import ConfigContract
from modalrec.testing.encoders import ImageEncoderContract, TextEncoderContract
from tests.encoders.conftest import cases, loaded

NAMES = list(plugins.discover("encoders"))
ALL = [(case, modality) for modality in ("text", "image") for real in (True, False) for case in cases(modality, real)]


@pytest.mark.parametrize("config", [cls.Config() for cls in plugins.discover("encoders").values()], ids=NAMES)
class TestEveryConfig(ConfigContract):
    config: Config


@pytest.mark.parametrize("encoder", cases("text", real=True), indirect=True)
class TestEveryTextEncoder(TextEncoderContract):
    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param, "text")


@pytest.mark.parametrize("encoder", cases("text", real=False), indirect=True)
class TestEveryTextEncoderOfRandomWeights(TextEncoderContract):
    margin = 0.01

    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param, "text")


@pytest.mark.parametrize("encoder", cases("image", real=True), indirect=True)
class TestEveryImageEncoder(ImageEncoderContract):
    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param, "image")


@pytest.mark.parametrize("encoder", cases("image", real=False), indirect=True)
class TestEveryImageEncoderOfRandomWeights(ImageEncoderContract):
    margin = 0.01

    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param, "image")


def test_every_encoder_is_among_the_cases() -> None:
    assert {case.partition("-")[0] for case, _ in ALL} == set(NAMES)


@pytest.mark.parametrize(("case", "modality"), ALL)
def test_other_modality_is_refused(case: str, modality: str) -> None:
    calls = {
        "text": lambda encoder: encoder.encode_texts(["a"]),
        "image": lambda encoder: encoder.encode_images([Image.new("RGB", (2, 2))]),
    }
    encoder = loaded(case, modality)
    assert calls.pop(modality)(encoder).shape == (1, encoder.dimension)
    if case != "hashing":  # needs nothing loaded, and does both at any time
        with pytest.raises(TypeError, match="does not encode"):
            calls.popitem()[1](encoder)


@pytest.mark.parametrize(("case", "modality"), ALL)
def test_weights_are_named_by_their_digest(case: str, modality: str) -> None:
    assert len(loaded(case, modality).weights) == (0 if case == "hashing" else 64)
