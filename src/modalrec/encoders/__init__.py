"""Encoders turn item texts and item pictures into vectors. One file is one encoder; see `Encoder`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from modalrec.config import Config
from modalrec.encoders._last_layers import LastLayers
from modalrec.errors import ConfigError
from modalrec.run import Run


class Encoder(ABC):
    """A text encoder, an image encoder, or both: an instance is made for one modality, and encodes that one.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        modalities: What it can encode: "text", "image" or both.
        dimension: Length of its vectors.
        weights: A digest of the files that its weights and its preprocessing came from; empty where there are none.
        spent: What it has used up that costs money, by name.
    """

    Config: ClassVar[type[Config]]
    modalities: ClassVar[frozenset[str]]
    dimension: int
    weights: str = ""
    spent: dict[str, float] = {}

    @abstractmethod
    def __init__(self, config: Any, device: str, modality: str, precision: str) -> None:
        """Loads the weights onto a torch device.

        Args:
            config: An instance of `Config`.
            device: A torch device name.
            modality: text or image, one of `modalities`.
            precision: float32, bfloat16 or float16: what to compute in; the vectors are float32 always.

        Raises:
            UpstreamError: The weights are not installed; the message says how to get them.
        """

    @classmethod
    def check(cls, config: Any, modality: str) -> None:
        """Refuses settings that cannot encode a modality, and a modality that is none of the encoder's; loads nothing.

        Raises:
            ValueError: Says which setting, and what to set instead.
        """
        if modality not in cls.modalities:
            raise ValueError(f"{cls.__name__} does not encode {modality}")

    @classmethod
    def unavailable(cls, config: Any) -> str:
        """Why this machine cannot use the encoder, such as a key that is not set; empty where nothing is known."""
        return ""

    def expect(self, contents: Callable[[], Iterable[list[Any]]], run: Run) -> None:
        """Is told of all contents before the first is encoded; an encoder that pays for each asks for them together.

        Args:
            contents: Gives all of them again with each call, some at a time, duplicates among them.
            run: The stage's run: where it keeps what must not be lost, and whom it tells.
        """
        return None

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), dimension]; the result does not depend on how texts are batched."""
        raise TypeError(f"{type(self).__name__} does not encode text")

    def encode_images(self, images: list[Image]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(images), dimension] of RGB pictures."""
        raise TypeError(f"{type(self).__name__} does not encode images")

    def last_layers(self, count: int) -> LastLayers:
        """Its last layers, to be trained with what their vectors feed.

        Raises:
            ConfigError: It has no such layers.
        """
        raise ConfigError(
            f"finetune_layers={count}: {type(self).__name__} has no layers to train; take minilm or huggingface, or "
            "finetune_layers=0"
        )

    def states(self, contents: list[Any], below: int) -> list[Tensor]:
        """The tokens [T, D] of each text or picture after its first `below` layers, for `LastLayers` of the others."""
        raise TypeError(f"{type(self).__name__} has no layers apart")


BASE = Encoder
