"""Encoder of pictures with any model of timm: ResNet-50 by default."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders._vectors import to_numpy
from modalrec.encoders._weights import UNREADABLE, digest_of, fetched, reason_of
from modalrec.errors import ConfigError, UpstreamError

# B pictures, C channels, H and W height and width, D dimension.

FILES = ("config.json", "model.safetensors")


class TimmConfig(Config):
    """Settings of the encoder.

    Attributes:
        name: timm.
        model: Repository of the hub, such as timm/resnet50.a1_in1k, `org/name` or `org/name@revision`; or a folder with
            its `config.json` and `model.safetensors`; or a file of weights; or an `s3://` URI of one of these. The
            default is ResNet-50, 2,048 numbers a picture.
        architecture: For a file of weights only, which does not say it: timm's name, such as resnet50.
        normalise: Vectors get length 1.
    """

    name: Literal["timm"] = "timm"
    model: str = "timm/resnet50.a1_in1k"
    architecture: str = ""
    normalise: bool = True


class Timm(Encoder):
    """The pooled features of any image model of timm, by hub name, folder or file of weights; ResNet-50 by default.

    Pictures are resized and cut as in the model's evaluation.

    Source: Wightman 2019, PyTorch Image Models; He et al. 2016, ResNet (arXiv 1512.03385).
    """

    Config = TimmConfig
    modalities = frozenset({"image"})

    def __init__(self, config: TimmConfig, device: str, modality: str = "image", precision: str = "float32") -> None:
        # Takes seconds to import, which listing the plug-ins or checking a config should not.
        import timm

        setting = f"embed_{modality}.encoder"
        with fetched(config.model, FILES, f"{setting}.model") as path:
            arguments = _arguments(path, config, setting)
            try:
                # With the classifier, since timm lets layers be missing where the number of classes differs.
                model = timm.create_model(**arguments, pretrained=True)
            except UNREADABLE as error:
                raise UpstreamError(
                    f"{setting}.model: {config.model} cannot be loaded as a model of timm from {path}: "
                    f"{reason_of(error)}. It needs config.json and model.safetensors, or a file and its "
                    "`architecture`"
                ) from error
            self.weights = digest_of(path, FILES)
        self.transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        model.reset_classifier(0)
        self.device, self.normalise = device, config.normalise
        self.dtype: torch.dtype = getattr(torch, precision)
        # Twice as fast for convolutions on a CPU as the default layout.
        self.model = model.eval().to(device, self.dtype, memory_format=torch.channels_last)
        self.dimension = self.encode_images([Image.new("RGB", (32, 32))]).shape[1]

    @torch.inference_mode()
    def encode_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """Vectors [len(images), dimension] of RGB pictures; all go through the model at once."""
        if not images:
            return np.zeros((0, self.dimension), np.float32)
        pixels_BCHW = torch.stack([self.transform(image) for image in images]).to(self.device, self.dtype)
        features_BD = self.model(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        return to_numpy(features_BD, self.normalise)


def _arguments(path: Path, config: TimmConfig, setting: str) -> dict[str, Any]:
    import timm

    if path.is_dir():
        return {"model_name": f"local-dir:{path}"}
    if not timm.is_model(config.architecture):
        raise ConfigError(
            f"{setting}.architecture: {config.architecture!r} is not known to timm and {path} is a file of weights, "
            "which does not say it; give timm's name of its architecture, such as resnet50"
        )
    return {"model_name": config.architecture, "pretrained_cfg_overlay": {"file": str(path), "custom_load": False}}
