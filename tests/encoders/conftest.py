import functools
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from modalrec import plugins
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders.huggingface import HuggingFaceConfig
from modalrec.encoders.open_clip import OpenCLIPConfig
from modalrec.encoders.openai import OpenAIConfig
from modalrec.encoders.timm import TimmConfig
from modalrec.testing.openai_server import EmbeddingsServer, served
from tests.encoders.small import folder_of


def _small(cls: type[Config], folder: str, **settings: object) -> Callable[[], Config]:
    return lambda: cls(model=str(folder_of(folder)), **settings)


SERVERS = ExitStack()


@functools.cache
def _server() -> EmbeddingsServer:
    """A server of embeddings, for as long as this process runs."""
    return SERVERS.enter_context(served())


SMALL: dict[str, dict[str, Callable[[], Config]]] = {
    "text": {
        "huggingface-bert": _small(HuggingFaceConfig, "bert", preset="bert"),
        "huggingface-mean": _small(HuggingFaceConfig, "bert", prefix="passage: "),
        "huggingface-sentence_t5": _small(HuggingFaceConfig, "t5", preset="sentence_t5"),
        "huggingface-qwen": _small(HuggingFaceConfig, "qwen", preset="qwen3_embedding"),
        "huggingface-clip": _small(HuggingFaceConfig, "clip", preset="clip"),
        "open_clip": _small(OpenCLIPConfig, "open_clip"),
        "openai": lambda: OpenAIConfig(base_url=_server().url, model="own", dimensions=128),
    },
    "image": {
        "huggingface-clip": _small(HuggingFaceConfig, "clip", preset="clip"),
        "huggingface-clip_vision": _small(HuggingFaceConfig, "clip_vision", pooling="pooled"),
        "huggingface-vit": _small(HuggingFaceConfig, "vit", preset="vit"),
        "huggingface-convnext": _small(HuggingFaceConfig, "convnext"),
        "open_clip": _small(OpenCLIPConfig, "open_clip"),
        "timm": _small(TimmConfig, "timm"),
    },
}
"""Encoders whose weights no package carries: small ones with random weights."""


def cases(modality: str, real: bool) -> list[str]:
    """The encoders of a modality, those with real weights (or none) or those with random ones."""
    names = [name for name, cls in plugins.discover("encoders").items() if modality in cls.modalities]
    own = {case.partition("-")[0] for case in SMALL[modality]}
    return [name for name in names if name not in own] if real else list(SMALL[modality])


@functools.cache
def loaded(case: str, modality: str) -> Encoder:
    """An encoder, loaded once a test process."""
    name = case.partition("-")[0]
    config = SMALL[modality].get(case, plugins.discover("encoders")[name].Config)()
    encoder: Encoder = plugins.create("encoders", config, "cpu", modality, "float32")
    return encoder


@pytest.fixture
def minilm() -> Encoder:
    return loaded("minilm", "text")


@pytest.fixture
def efficientnet() -> Encoder:
    return loaded("efficientnet", "image")
