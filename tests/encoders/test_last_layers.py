"""The last layers over what the layers below made give the encoder's own vectors."""

import numpy as np
import pytest
import torch
from PIL import Image

from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.encoders.huggingface import HuggingFace, HuggingFaceConfig
from modalrec.errors import ConfigError
from tests.encoders.small import folder_of

TEXTS = ["steel screws, 100 pieces of the best that there are", "a love story", "word"]
PICTURES = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB")]


def encoder(name: str, modality: str = "text", **settings: object) -> HuggingFace:
    return HuggingFace(HuggingFaceConfig(model=str(folder_of(name)), **settings), "cpu", modality)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("name", "pooling"), [("bert", "cls"), ("bert", "mean"), ("vit", "cls")])
def test_the_vectors_are_those_of_the_whole_encoder(name, pooling, count):
    whole = encoder(name, "image" if name == "vit" else "text", pooling=pooling)
    contents = PICTURES if name == "vit" else TEXTS
    expected = whole.encode_images(PICTURES) if name == "vit" else whole.encode_texts(TEXTS)
    last = whole.last_layers(count).eval()
    states = whole.states(contents, last.below)
    np.testing.assert_allclose(last(states).detach().numpy(), expected, atol=2e-3)
    np.testing.assert_allclose(last(states[:1]).detach().numpy(), expected[:1], atol=2e-3)
    last(states)[:, 0].sum().backward()
    assert all(one.grad is not None for one in last.layers.parameters())
    assert all(one.grad is None for one in whole.model.parameters()), "the encoder itself is left alone"
    assert states[0].dtype == torch.float16


@pytest.mark.parametrize(("name", "count"), [("bert", 3), ("clip", 1)])
def test_layers_that_are_not_there_are_refused(name, count):
    settings = {"pooling": "pooled"} if name == "clip" else {}
    with pytest.raises(ConfigError, match=f"finetune_layers={count}: .* has no such last layers"):
        encoder(name, **settings).last_layers(count)
    with pytest.raises(ConfigError, match="Hashing has no layers to train"):
        Hashing(HashingConfig(), "cpu", "text", "float32").last_layers(1)
