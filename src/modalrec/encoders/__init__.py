"""Encoders turn item texts and item pictures into vectors. One file is one encoder; see `Encoder`."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from modalrec.config import Config


class Encoder(ABC):
    """A text encoder, an image encoder, or both.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        modalities: What it can encode: "text", "image" or both.
        dimension: Length of its vectors.
    """

    Config: ClassVar[type[Config]]
    modalities: ClassVar[frozenset[str]]
    dimension: int

    @abstractmethod
    def __init__(self, config: Any, device: str) -> None:
        """Loads the weights onto a torch device.

        Raises:
            UpstreamError: The weights are not installed; the message says how to get them.
        """

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), dimension]; the result does not depend on how texts are batched."""
        raise TypeError(f"{type(self).__name__} does not encode text")

    def encode_images(self, images: list[Image]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(images), dimension] of RGB pictures."""
        raise TypeError(f"{type(self).__name__} does not encode images")


BASE = Encoder
