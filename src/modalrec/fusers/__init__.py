"""Fusers join the vectors of several modalities into one vector per item. One file is one fuser; see `Fuser`.

Some learn how to: see `TrainedFuser`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modalrec import plugins
from modalrec.artifacts.files import write_json
from modalrec.config import Config, dump
from modalrec.errors import ArtifactError

BASE_KIND = "fusers"
FUSER = "fuser.json"
WEIGHTS = "fuser.safetensors"

ModalityBatch = Mapping[str, Tensor]
"""Rows of a few items: `text` [B, length of the modality] and `text_present` [B], likewise for every modality."""


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
        """Prepares for modalities of the given lengths.

        Args:
            config: An instance of `Config`.
            dimensions: From modality to the length of its vectors, for example `{"text": 384, "image": 1280}`.
            seed: Of whatever is drawn here.
        """

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


class TrainedFuser(nn.Module, Fuser, ABC):
    """A fuser that learns from train items; all its state is in `state_dict()`, so that a run resumes exactly."""

    @abstractmethod
    def initialise(self, batch: ModalityBatch) -> None:
        """Sets what is computed rather than trained, from train items. Called once, before the first step.

        One item is enough, items may be equal or zero, and none need have all modalities.
        """

    @abstractmethod
    def learns(self, batch: ModalityBatch) -> bool:
        """Whether these train items hold anything that the objective can be trained on."""

    @abstractmethod
    def loss(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """The training losses of a batch: `loss` is what is minimised, the others are shown."""

    @abstractmethod
    def held_out_loss(self, batch: ModalityBatch) -> float:
        """What stops training: the objective on items that are not learnt from, without random draws."""

    @abstractmethod
    def project(self, batch: ModalityBatch) -> dict[str, Tensor]:
        """Unit vectors of every modality in the common space, [B, length of the space], without gradients."""


BASE = Fuser


def save_fuser(folder: Path, fuser: Fuser, config: Config, dimensions: Mapping[str, int], seed: int) -> None:
    """Writes a fuser so that the folder alone fuses new items as it fused these.

    Args:
        folder: The building place of an Embeddings artifact.
        fuser: The fuser, trained where it learns.
        config: What it was built from, as `dimensions` and `seed`.
        dimensions: Length of each modality's vectors.
        seed: Of the run.
    """
    if isinstance(fuser, TrainedFuser):
        tensors = {name: value.detach().cpu().contiguous() for name, value in fuser.state_dict().items()}
        save_file(tensors, folder / WEIGHTS)
    # A list: `write_json` sorts keys, and the order of the modalities is the order of blocks in a fused vector.
    modalities = [[name, length] for name, length in dimensions.items()]
    write_json(folder / FUSER, {"fuser": dump(config), "modalities": modalities, "seed": seed})


def load_fuser(folder: Path, device: str = "cpu") -> Fuser:
    """Reads what `save_fuser` wrote; nothing in the folder is executed.

    Raises:
        ArtifactError: A file is missing or does not fit the others.
    """
    try:
        written = json.loads((folder / FUSER).read_bytes())
        config = TypeAdapter(plugins.any_config(BASE_KIND)).validate_python(written["fuser"])
        fuser: Fuser = plugins.create(BASE_KIND, config, dict(written["modalities"]), written["seed"])
        if isinstance(fuser, TrainedFuser):
            fuser.load_state_dict(load_file(folder / WEIGHTS))
            fuser.to(device).eval()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ValidationError, SafetensorError) as error:
        raise ArtifactError(f"{folder}: not a fuser of this version ({error}); run `fuse` again") from None
    return fuser
