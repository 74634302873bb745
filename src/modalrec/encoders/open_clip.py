"""Encoder of texts or pictures with the two towers of any CLIP model that open_clip knows."""

import difflib
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

# B texts or pictures, T tokens of the context, C channels, H and W height and width, D dimension.

FILES = ("*.json", "*.txt", "*.model", "open_clip_*model.safetensors")
PRECISIONS = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


class OpenCLIPConfig(Config):
    """Settings of the encoder.

    Attributes:
        name: open_clip.
        model: Repository of the hub that holds `open_clip_config.json` and safetensors, such as those of laion and
            timm, as `org/name` or `org/name@revision`; or a folder with the same files; or a file of weights; or an
            `s3://` URI of one of these. The default is OpenAI's ViT-L/14.
        architecture: For a file of weights only, which does not say it: open_clip's name, such as ViT-B-32. OpenAI's
            weights are of the names that end in -quickgelu.
        normalise: Vectors get length 1.
    """

    name: Literal["open_clip"] = "open_clip"
    model: str = "timm/vit_large_patch14_clip_224.openai"
    architecture: str = ""
    normalise: bool = True


class OpenCLIP(Encoder):
    """A tower of a CLIP model: texts and pictures in one space, by hub name, folder or file of weights.

    Texts are cut at the context of the model, 77 tokens in most. Pictures are cut to a square as in its training.

    Source: Radford et al. 2021, CLIP (arXiv 2103.00020); Cherti et al. 2023, OpenCLIP (arXiv 2212.07143).
    """

    Config = OpenCLIPConfig
    modalities = frozenset({"text", "image"})

    def __init__(self, config: OpenCLIPConfig, device: str, modality: str = "text", precision: str = "float32") -> None:
        self.config, self.device, self.modality = config, device, modality
        self.dtype: torch.dtype = getattr(torch, precision)
        setting = f"embed_{modality}.encoder"
        with fetched(config.model, FILES, f"{setting}.model") as path:
            try:
                self.model, self.tokenizer, self.transform = _load(path, config, device, precision, setting)
            except UNREADABLE as error:
                raise UpstreamError(
                    f"{setting}.model: {config.model} cannot be loaded as a CLIP model from {path}: "
                    f"{reason_of(error)}. It needs open_clip_config.json and open_clip_model.safetensors, or a file "
                    "and its `architecture`"
                ) from error
            self.weights = digest_of(path, FILES)
        if modality == "text":
            self.dimension = self.encode_texts(["x"]).shape[1]
        else:
            self.dimension = self.encode_images([Image.new("RGB", (32, 32))]).shape[1]

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors [len(texts), dimension]; all texts go through the tower at once."""
        if self.modality != "text":
            return super().encode_texts(texts)
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        tokens_BT = self.tokenizer(texts).to(self.device)
        return to_numpy(self.model.encode_text(tokens_BT), self.config.normalise)

    @torch.inference_mode()
    def encode_images(self, images: list[Image.Image]) -> NDArray[np.float32]:
        """Vectors [len(images), dimension] of RGB pictures; all go through the tower at once."""
        if self.modality != "image":
            return super().encode_images(images)
        if not images:
            return np.zeros((0, self.dimension), np.float32)
        pixels_BCHW = torch.stack([self.transform(image) for image in images]).to(self.device, self.dtype)
        return to_numpy(self.model.encode_image(pixels_BCHW), self.config.normalise)


def _load(path: Path, config: OpenCLIPConfig, device: str, precision: str, setting: str) -> tuple[Any, Any, Any]:
    # Takes seconds to import, which listing the plug-ins or checking a config should not.
    import open_clip

    # Without `require_pretrained`, weights that are not found would be random numbers.
    known: dict[str, Any] = {"precision": PRECISIONS[precision], "device": device, "require_pretrained": True}
    if path.is_dir():
        name = f"local-dir:{path}"
    elif config.architecture in open_clip.list_models():
        name = config.architecture
        known["pretrained"] = str(path)
    else:
        near = difflib.get_close_matches(config.architecture, open_clip.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "such as ViT-B-32 or ViT-L-14-quickgelu"
        raise ConfigError(
            f"{setting}.architecture: {config.architecture!r} is not known to open_clip and {path} is a file of "
            f"weights, which does not say it; give open_clip's name of its architecture, {hint}"
        )
    model = open_clip.create_model(name, **known).eval()
    preprocess = open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg)
    return model, open_clip.get_tokenizer(name), open_clip.transform.image_transform_v2(preprocess, is_train=False)
