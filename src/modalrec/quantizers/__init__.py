"""Quantizers turn vectors into tuples of discrete codes. One file is one quantizer; see `Quantizer`."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from modalrec.config import Config

# N items of a batch, D input dimension, L levels, V codes per level (the codebook size).


class Quantizer(nn.Module, ABC):
    """Learns codebooks; all its state is in `state_dict()`, so that a run resumes exactly.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]` and `codebook_sizes`.
    """

    Config: ClassVar[type[Config]]

    @abstractmethod
    def __init__(self, config: Any, dimension: int) -> None:
        """Builds the modules for vectors of the given length, from the global torch generator."""

    @property
    @abstractmethod
    def codebook_sizes(self) -> list[int]:
        """Codes per level, [L] numbers."""

    @abstractmethod
    def initialise(self, vectors_ND: Tensor) -> None:
        """Sets codebooks from a sample of the data, for example by k-means. Called once, before the first step."""

    @abstractmethod
    def loss(self, vectors_ND: Tensor) -> dict[str, Tensor]:
        """The training losses of a batch: `loss` is what is minimised, the others are shown. May update buffers."""

    @abstractmethod
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """Codes [N, L], int64, without gradients."""

    @abstractmethod
    def decode(self, codes_NL: Tensor) -> Tensor:
        """Reconstructed vectors [N, D]."""


BASE = Quantizer
