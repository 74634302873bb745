"""Fuser `concat`: the modalities side by side."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from modalrec.config import Config
from modalrec.fusers import Fuser

# B items of a batch, D length of a modality's vectors.


class ConcatConfig(Config):
    """Settings of the fuser.

    Attributes:
        name: concat.
        weights: Length of each modality's block before the whole is normalised; 1 for one that is not named.
    """

    name: Literal["concat"] = "concat"
    weights: dict[Literal["text", "image"], PositiveFloat] = {"text": 1.0, "image": 1.0}


class Concat(Fuser):
    """Each modality is L2-normalised and times its weight, then they are joined end to end and normalised again.

    The cosine of two items that have everything is the mean of the modalities' cosines, weighted by the squared
    weights. A missing modality is a block of zeros and the others fill the norm: the cosine then counts the shared
    modalities only, and is smaller for it. An item without any modality is zero.
    """

    Config = ConcatConfig

    def __init__(self, config: ConcatConfig, dimensions: Mapping[str, int], seed: int) -> None:
        self.weights = {name: config.weights.get(name, 1.0) for name in dimensions}  # type: ignore[call-overload]
        self.dimension = sum(dimensions.values())

    def fuse(
        self, vectors: Mapping[str, NDArray[np.float32]], present: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """L2-normalised vectors [B, sum of the modalities' lengths]; see the class for missing modalities."""
        blocks = [
            _normalise(vectors[name] * present[name][:, None]) * np.float32(weight)
            for name, weight in self.weights.items()
        ]
        return _normalise(np.concatenate(blocks, axis=1))


def _normalise(vectors_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    norms_B1 = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return np.divide(vectors_BD, norms_B1, out=np.zeros_like(vectors_BD), where=norms_B1 > 0)
