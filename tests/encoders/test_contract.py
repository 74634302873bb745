"""Every encoder that is found keeps the contracts."""

import pytest
from PIL import Image

from modalrec import plugins
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.testing.configs import ConfigContract
from modalrec.testing.encoders import ImageEncoderContract, TextEncoderContract
from tests.encoders.conftest import able, loaded

NAMES = list(plugins.discover("encoders"))


@pytest.mark.parametrize("config", [cls.Config() for cls in plugins.discover("encoders").values()], ids=NAMES)
class TestEveryConfig(ConfigContract):
    config: Config


@pytest.mark.parametrize("encoder", able("text"), indirect=True)
class TestEveryTextEncoder(TextEncoderContract):
    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param)


@pytest.mark.parametrize("encoder", able("image"), indirect=True)
class TestEveryImageEncoder(ImageEncoderContract):
    @pytest.fixture
    def encoder(self, request: pytest.FixtureRequest) -> Encoder:
        return loaded(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_other_modality_is_refused(name: str) -> None:
    calls = {
        "text": lambda encoder: encoder.encode_texts(["a"]),
        "image": lambda encoder: encoder.encode_images([Image.new("RGB", (2, 2))]),
    }
    encoder = loaded(name)
    for modality, call in calls.items():
        if modality in encoder.modalities:
            assert call(encoder).shape == (1, encoder.dimension)
        else:
            with pytest.raises(TypeError, match=f"does not encode {modality}"):
                call(encoder)
