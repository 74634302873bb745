"""Fusers join the vectors of several modalities into one vector per item. One file is one fuser; see `Fuser`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from modalrec.config import Config


class Fuser(ABC):
    """Joins modality vectors, row by row, so that a catalogue of any size streams through.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        dimension: Length of the fused vectors.
    """

    Config: ClassVar[type[Config]]
    dimension: int

    @abstractmethod
    def __init__(self, config: Any, dimensions: Mapping[str, int], seed: int) -> None:
        """Prepares for modalities of the given lengths, for example `{"text": 384, "image": 1280}`."""

    @abstractmethod
    def fuse(
        self, vectors: Mapping[str, NDArray[np.float32]], present: Mapping[str, NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        """Fuses a batch.

        Args:
            vectors: From modality to [batch, length of the modality]; rows that are not present are zero.
            present: From modality to [batch].

        Returns:
            L2-normalised vectors [batch, dimension], zero where no modality is present.
        """


BASE = Fuser
