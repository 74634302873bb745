"""The linear layers that sentence-transformers puts behind the pooling, such as Sentence-T5's."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from modalrec.encoders._weights import UNREADABLE, reason_of
from modalrec.errors import UpstreamError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "torch.nn.modules.linear.Identity": nn.Identity,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.GELU": nn.GELU,
}
"""A table, since importing what a file names would run what a file names."""


def dense_layers(folder: Path) -> nn.Sequential:
    """The layers that `modules.json` of a model's folder lists, in order; none where there is no such file.

    Raises:
        UpstreamError: A layer is damaged, or has an activation that is not known here.
    """
    layers: list[nn.Module] = []
    try:
        listed = json.loads((folder / "modules.json").read_text()) if (folder / "modules.json").is_file() else []
        for part in (folder / module["path"] for module in listed if module["type"].endswith(".Dense")):
            config = json.loads((part / "config.json").read_text())
            linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
            safe, old = part / "model.safetensors", part / "pytorch_model.bin"
            state = load_file(safe) if safe.exists() else torch.load(old, map_location="cpu", weights_only=True)
            linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in state.items()})
            layers += [linear, ACTIVATIONS[config.get("activation_function", "torch.nn.modules.linear.Identity")]()]
    except UNREADABLE as error:
        raise UpstreamError(
            f"{folder}: a layer that modules.json lists cannot be loaded ({type(error).__name__}: {reason_of(error)}); "
            "download the model again, with the folders that modules.json names"
        ) from error
    return nn.Sequential(*layers)
