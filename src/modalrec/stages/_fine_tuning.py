"""The last layers of the encoders that items' vectors came from, for models that train them, too."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from modalrec import plugins
from modalrec.artifacts import read_manifest
from modalrec.data.images import load_images, open_image
from modalrec.data.texts import load_texts
from modalrec.encoders import Encoder
from modalrec.errors import ArtifactError
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run

TOLERANCE = 0.05
"""By which what the last layers give may be off the vectors of the edge, made in another precision perhaps."""
CHECKED = 8

Windows = Iterable[tuple[NDArray[np.int32], list[Any]]]


def fine_tune(model: RowModel, dataset: Path, about: Mapping[str, Path], run: Run) -> None:
    """Gives the model's modalities the last layers of their encoders, and what the layers below make of every item.

    Raises:
        ConfigError: An encoder has no such layers.
        ArtifactError: Vectors were not made by an encoder of ours, or by another than the one that is there.
    """
    contents: dict[str, tuple[Windows, Callable[[Any], Any]]] = {
        "text": (load_texts(dataset), lambda text: text),
        "image": (load_images(dataset), open_image),
    }
    model.to(run.torch_device())
    for name, modality in model.tuned.items():
        folder = about[f"{name}_embeddings"]
        encoder = _encoder(folder, name, run)
        last = encoder.last_layers(model.config.finetune_layers)
        states: list[Tensor | None] = [None] * len(model.items)
        windows, prepare = contents[name]
        with run.progress(f"{name}s through the layers below") as progress:
            for places, found in windows:
                made = encoder.states([prepare(one) for one in found], last.below)
                for place, state in zip(places.tolist(), made, strict=True):
                    states[place] = state
                progress.advance(len(found))
        modality.fine_tune(last, states)  # type: ignore[operator]
        _refuse_other_vectors(modality, folder)


def _encoder(folder: Path, modality: str, run: Run) -> Encoder:
    """The encoder that made the vectors, on the device of the run."""
    said = read_manifest(folder, "embeddings").config.get("encoder")
    try:
        config = TypeAdapter(plugins.any_config("encoders")).validate_python(said)
    except ValidationError:
        raise ArtifactError(
            f"{folder}: does not say which encoder made it, whose last layers could be trained; make it with "
            f"embed_{modality}, or set finetune_layers=0"
        ) from None
    encoder: Encoder = plugins.create("encoders", config, run.torch_device(), modality, "float32")
    return encoder


@torch.no_grad()
def _refuse_other_vectors(modality: Any, folder: Path) -> None:
    """Refuses where the first items' vectors are not those of the edge."""
    items = modality.present.nonzero()[:CHECKED, 0]
    modality.eval()
    apart = (modality.encoded(items) - modality.vectors[items]).norm()
    modality.train()
    if apart > TOLERANCE * modality.vectors[items].norm():
        raise ArtifactError(
            f"{folder}: holds other vectors than the encoder gives from its last layers, by "
            f"{apart / modality.vectors[items].norm():.0%}: several an item, of other content, or of other weights. "
            "Embed anew, a vector an item, or set finetune_layers=0"
        )
