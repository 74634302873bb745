"""Quantizers turn vectors into tuples of discrete codes. One file is one quantizer; see `Quantizer`."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modalrec import plugins
from modalrec.artifacts.codes import QUANTIZER
from modalrec.artifacts.files import write_json
from modalrec.config import Config, dump
from modalrec.errors import ArtifactError

# N items of a batch, D input dimension, L levels, V codes per level (the codebook size).

BASE_KIND = "quantizers"
WEIGHTS = "quantizer.safetensors"


class Quantizer(nn.Module, ABC):
    """Learns codebooks; all its state is in `state_dict()`, so that a run resumes exactly.

    Attributes:
        Config: The configuration class, with `name: Literal["<module>"]`.
        config: The configuration it was built from.
        dimension: Length of the vectors, D.
        by_gradient: Trained in steps on `loss`; otherwise `initialise` alone trains it.
    """

    Config: ClassVar[type[Config]]
    by_gradient: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, config: Any, dimension: int) -> None:
        """Builds the modules for vectors of the given length, from the global torch generator."""
        super().__init__()
        self.config = config
        self.dimension = dimension

    @property
    @abstractmethod
    def codebook_sizes(self) -> list[int]:
        """Codes per level, [L] numbers."""

    @property
    def shares_codebook(self) -> bool:
        """Whether all levels choose from one codebook, so that a code means the same at each of them."""
        return False

    @abstractmethod
    def initialise(self, vectors_ND: Tensor) -> None:
        """Sets codebooks from a sample of the data, for example by k-means. Called once, before the first step.

        One vector is enough, vectors may be equal, and there may be fewer of them than codes.
        """

    def loss(self, vectors_ND: Tensor) -> dict[str, Tensor]:
        """The training losses of a batch: `loss` is what is minimised, the others are shown. May update buffers.

        By default the squared error of the reconstruction without gradients, for quantizers not trained by gradient.
        """
        return {"loss": (self.decode(self.encode(vectors_ND)) - vectors_ND).pow(2).mean()}

    @abstractmethod
    def encode(self, vectors_ND: Tensor) -> Tensor:
        """Codes [N, L], int64, without gradients."""

    @abstractmethod
    def decode(self, codes_NL: Tensor) -> Tensor:
        """Reconstructed vectors [N, D], without gradients."""


BASE = Quantizer


def save_quantizer(folder: Path, quantizer: Quantizer, codebook_sizes: Sequence[int]) -> None:
    """Writes a quantizer so that the folder alone encodes new items.

    Args:
        folder: The building place of a Codes artifact.
        quantizer: The trained quantizer.
        codebook_sizes: Of the semantic IDs in the folder: the quantizer's, and the collision position's last.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in quantizer.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    config, sizes = dump(quantizer.config), list(codebook_sizes)
    write_json(folder / QUANTIZER, {"quantizer": config, "dimension": quantizer.dimension, "codebook_sizes": sizes})


def save_towers(folder: Path, towers: Mapping[str, Quantizer], codebook_sizes: Sequence[int] | None = None) -> None:
    """Writes one quantizer per modality, each in a folder of its name, which `load_quantizer` reads.

    Args:
        folder: The building place of a Codes artifact.
        towers: From modality to quantizer, in the order of the codes; the same one twice for a shared code space.
        codebook_sizes: Of the whole semantic IDs: the towers' one after the other, and the collision position's last;
            None for code groups, which tell their own.
    """
    for name, quantizer in towers.items():
        (folder / name).mkdir()
        save_quantizer(folder / name, quantizer, quantizer.codebook_sizes)
    if codebook_sizes is not None:
        shared = len({id(quantizer) for quantizer in towers.values()}) < len(towers)
        sizes = list(codebook_sizes)
        write_json(folder / QUANTIZER, {"towers": list(towers), "shared": shared, "codebook_sizes": sizes})


def load_quantizer(folder: Path, device: str = "cpu") -> Quantizer:
    """Reads what `save_quantizer` wrote; nothing in the folder is executed.

    Raises:
        ArtifactError: A file is missing or does not fit the others.
    """
    try:
        written = json.loads((folder / QUANTIZER).read_bytes())
        config = TypeAdapter(plugins.any_config(BASE_KIND)).validate_python(written["quantizer"])
        quantizer: Quantizer = plugins.create(BASE_KIND, config, written["dimension"])
        quantizer.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ValidationError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: not a quantizer of this version ({error}); run `quantize` again") from None
    return quantizer.to(device).eval()
