"""Fuser `sum`: the modalities added up in one space."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from modalrec.config import Config
from modalrec.fusers import Fuser

# B items of a batch, D length of a modality's vectors, F length of the fused ones.


class SumConfig(Config):
    """Settings of the fuser.

    Attributes:
        name: sum.
        dimension: Length of the fused vectors.
        weights: Factor of each modality; 1 for one that is not named.
    """

    name: Literal["sum"] = "sum"
    dimension: int = Field(default=256, ge=1, le=65536)
    weights: dict[Literal["text", "image"], PositiveFloat] = {"text": 1.0, "image": 1.0}


class Sum(Fuser):
    """Each modality is L2-normalised, brought to `dimension`, times its weight; the sum is normalised.

    Vectors of exactly `dimension` stay as they are; others go through a random projection with orthogonal columns that
    keeps inner products (exactly when it lengthens, in expectation when it shortens, with an error that falls as
    1 / sqrt(dimension)). Modalities of one length share their projection, so that encoders with a common space, such
    as CLIP's, keep it. The projection depends on the seed of the run.

    A missing modality adds nothing and the others fill the norm. An item without any modality is zero.
    """

    Config = SumConfig

    def __init__(self, config: SumConfig, dimensions: Mapping[str, int], seed: int) -> None:
        self.weights = {name: config.weights.get(name, 1.0) for name in dimensions}  # type: ignore[call-overload]
        self.dimension = config.dimension
        self.projections = {name: _projection(length, self.dimension, seed) for name, length in dimensions.items()}

    def fuse(
        self, vectors: Mapping[str, NDArray[np.float32]], present: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """L2-normalised vectors [B, dimension]; see the class for missing modalities."""
        batch = len(next(iter(present.values())))
        total_BF = np.zeros((batch, self.dimension), np.float32)
        for name, weight in self.weights.items():
            unit_BD = _normalise(vectors[name] * present[name][:, None])
            projection_DF = self.projections[name]
            total_BF += np.float32(weight) * (unit_BD if projection_DF is None else unit_BD @ projection_DF)
        return _normalise(total_BF)


def _projection(length: int, dimension: int, seed: int) -> NDArray[np.float32] | None:
    """A matrix [length, dimension] with orthogonal columns (or rows, where it lengthens), or None for the identity."""
    if length == dimension:
        return None
    rng = np.random.default_rng([seed, length, dimension])
    tall = rng.standard_normal((max(length, dimension), min(length, dimension)))
    orthonormal, _ = np.linalg.qr(tall)
    if length < dimension:
        return np.ascontiguousarray(orthonormal.T, np.float32)
    return np.float32(np.sqrt(length / dimension)) * orthonormal.astype(np.float32)


def _normalise(vectors_BD: NDArray[np.float32]) -> NDArray[np.float32]:
    norms_B1 = np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return np.divide(vectors_BD, norms_B1, out=np.zeros_like(vectors_BD), where=norms_B1 > 0)
