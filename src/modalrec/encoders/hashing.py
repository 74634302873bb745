"""Encoder without weights: hashed words of texts, projected colour thumbnails of pictures. For tests and first runs."""

import hashlib
import itertools
import math
import re
from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from modalrec.config import Config
from modalrec.encoders import Encoder

# N texts or pictures, P pixels x colours of a thumbnail, D dimension.

SIDE = 16
SEED = 20150416
"""Of the projection: a constant, since vectors of two runs must be comparable."""
WORD = re.compile(r"\w+")


class HashingConfig(Config):
    """Settings of the encoder.

    Attributes:
        name: hashing.
        dimension: Length of the vectors; fewer means more words that share a place.
    """

    name: Literal["hashing"] = "hashing"
    dimension: int = Field(default=128, ge=8, le=65536)


class Hashing(Encoder):
    """Texts that share words, and pictures that share colours at the same places, get similar vectors.

    Text: each word and each pair of neighbours goes to one place with a sign, both from its hash, and adds
    1 + log(count) there (Weinberger et al. 2009, arXiv 0902.2206). Pictures: a thumbnail of 16 x 16 RGB minus grey,
    times a fixed Gaussian matrix, so that inner products are about kept.
    """

    Config = HashingConfig
    modalities = frozenset({"text", "image"})

    def __init__(self, config: HashingConfig, device: str, modality: str = "text", precision: str = "float32") -> None:
        self.dimension = config.dimension
        # The last column is a constant, so that plain grey has a direction too.
        rng = np.random.default_rng(SEED)
        self.projection_PD = rng.standard_normal((SIDE * SIDE * 3 + 1, self.dimension), np.float32)

    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), dimension]."""
        vectors_ND = np.zeros((len(texts), self.dimension), np.float32)
        for vector_D, text in zip(vectors_ND, texts, strict=True):
            words = WORD.findall(text.lower())
            features = Counter(words) + Counter(f"{a} {b}" for a, b in itertools.pairwise(words))
            for feature, count in features.items():
                self._add(vector_D, feature, 1 + math.log(count))
            if not vector_D.any():
                # No words, such as a lone emoji, or signs that cancelled out: the text itself is the feature.
                self._add(vector_D, f"\n{text}", 1.0)
        return _normalise(vectors_ND)

    def encode_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(images), dimension] of RGB pictures."""
        pixels_NP = np.ones((len(images), SIDE * SIDE * 3 + 1), np.float32)
        for row, image in enumerate(images):
            thumbnail = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
            pixels_NP[row, :-1] = thumbnail.reshape(-1) / 127.5 - 1
        # One row at a time: the result of a matrix product over all rows depends, in its last bits, on their number.
        rows = [row_P @ self.projection_PD for row_P in pixels_NP]
        return _normalise(np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32))

    def _add(self, vector_D: NDArray[np.float32], feature: str, value: float) -> None:
        # Python's hash() differs from process to process.
        digest = hashlib.blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        vector_D[(number >> 1) % self.dimension] += value if number & 1 else -value


def _normalise(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)
