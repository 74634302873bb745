import functools

import pytest

from modalrec import plugins
from modalrec.encoders import Encoder


@functools.cache
def loaded(name: str) -> Encoder:
    """An encoder with its default settings, loaded once a test process."""
    return plugins.create("encoders", plugins.discover("encoders")[name].Config(), "cpu")


def able(modality: str) -> list[str]:
    """The encoders of a modality."""
    return [name for name, cls in plugins.discover("encoders").items() if modality in cls.modalities]


@pytest.fixture
def minilm() -> Encoder:
    return loaded("minilm")


@pytest.fixture
def efficientnet() -> Encoder:
    return loaded("efficientnet")
