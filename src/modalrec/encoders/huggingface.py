"""Encoder of texts or pictures with any model of the Hugging Face hub that transformers knows."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field, model_validator

from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders._dense import dense_layers
from modalrec.encoders._last_layers import LastLayers, states_of_pictures, states_of_texts
from modalrec.encoders._tokens import in_passes
from modalrec.encoders._vectors import Pooling, pool, to_numpy
from modalrec.encoders._weights import UNREADABLE, digest_of, fetched, reason_of
from modalrec.errors import UpstreamError

# N texts, B texts or pictures of one pass, T tokens of the longest text or of a picture, D dimension.

FILES = ("*.json", "*.txt", "*.model", "*.safetensors", "*_Dense/*.bin")
PRESETS: dict[str, dict[str, Any]] = {
    "bert": {"model": "google-bert/bert-base-uncased", "pooling": "cls", "max_tokens": 512},
    "sentence_t5": {"model": "sentence-transformers/sentence-t5-base", "pooling": "mean", "max_tokens": 256},
    "qwen3_embedding": {"model": "Qwen/Qwen3-Embedding-0.6B", "pooling": "last", "max_tokens": 8192},
    "clip": {"model": "openai/clip-vit-large-patch14", "pooling": "pooled", "max_tokens": 77},
    "vit": {"model": "google/vit-base-patch16-224-in21k", "pooling": "cls"},
    "dinov2": {"model": "facebook/dinov2-base", "pooling": "cls"},
}
"""Settings of well-known families, as their authors use them. Qwen wants an instruction before queries only, and items
are documents."""
OF_PRESET = {name: {"text"} if "max_tokens" in preset else {"image"} for name, preset in PRESETS.items()}
OF_PRESET["clip"] = {"text", "image"}


class HuggingFaceConfig(Config):
    """Settings of the encoder: a model, or a preset, whose settings stand where none are given.

    Attributes:
        name: huggingface.
        preset: A family of models that gives `model`, `pooling` and `max_tokens`. Text: bert (first token),
            sentence_t5 (mean, then its linear layer), qwen3_embedding (last token), clip. Pictures: clip, vit and
            dinov2 (first token).
        model: Name on the hub, `org/name` or `org/name@revision`; or a local folder; or an `s3://` URI of one. With
            a preset another size of the family, or the family in a folder.
        pooling: `mean` of the token vectors; `cls`, the first; `last`, the last, for texts only; `pooled`, the model's
            own: the projection into the common space of CLIP, else what its pooler gives.
        prefix: Put before every text, such as "passage: " or an instruction.
        max_tokens: Longer texts are cut, or at what the model can take where that is less.
        normalise: Vectors get length 1.
    """

    name: Literal["huggingface"] = "huggingface"
    preset: Literal["", "bert", "sentence_t5", "qwen3_embedding", "clip", "vit", "dinov2"] = ""
    model: str = ""
    pooling: Pooling = "mean"
    prefix: str = ""
    max_tokens: int = Field(default=512, ge=4)
    normalise: bool = True

    @model_validator(mode="before")
    @classmethod
    def _take_preset(cls, given: Any) -> Any:
        return PRESETS.get(str(given.get("preset")), {}) | given if isinstance(given, dict) else given


class HuggingFace(Encoder):
    """Any text or vision model of the hub, by name or from a folder: BERT, Sentence-T5, Qwen, CLIP, ViT, DINO.

    Weights are read from safetensors only, and code that a repository brings is never run.

    Source: Devlin et al. 2019, BERT (arXiv 1810.04805); Ni et al. 2022, Sentence-T5 (arXiv 2108.08877); Zhang et al.
    2025, Qwen3 Embedding (arXiv 2506.05176); Radford et al. 2021, CLIP (arXiv 2103.00020).
    """

    Config = HuggingFaceConfig
    modalities = frozenset({"text", "image"})

    def __init__(
        self, config: HuggingFaceConfig, device: str, modality: str = "text", precision: str = "float32"
    ) -> None:
        self.config, self.device, self.modality = config, device, modality
        self.dtype: torch.dtype = getattr(torch, precision)
        setting = f"embed_{modality}.encoder.model"
        with fetched(config.model, FILES, setting) as folder:
            try:
                self.model, self.reader = _load(folder, modality, config.pooling, self.dtype)
            except UNREADABLE as error:
                raise UpstreamError(
                    f"{setting}: {config.model} cannot be loaded as a model of {modality} from {folder}: "
                    f"{reason_of(error)}. Download it again, or choose a model of {modality} with safetensors"
                ) from error
            self.dense = dense_layers(folder) if modality == "text" else torch.nn.Sequential()
            self.weights = digest_of(folder, FILES)
        self.model.to(device).eval()
        self.dense.to(device).eval()
        if modality == "text":
            self._prepare_tokenizer()
            self.dimension = self.encode_texts(["x"]).shape[1]
        else:
            self.dimension = self.encode_images([_blank()]).shape[1]

    @classmethod
    def check(cls, config: HuggingFaceConfig, modality: str) -> None:
        """Refuses a missing model, a preset of the other modality, and the last token of a picture."""
        able = ", ".join(name for name, modalities in OF_PRESET.items() if modality in modalities)
        if not config.model:
            raise ValueError(f"model: missing; give a name of the hub, a folder, or as preset one of {able}")
        if config.preset and modality not in OF_PRESET[config.preset]:
            raise ValueError(f"preset {config.preset!r} does not encode {modality}; use one of {able}")
        if modality == "image" and config.pooling == "last":
            raise ValueError("pooling 'last' is for texts; use pooled, cls or mean")

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors [len(texts), dimension]; texts of about one length go through the model together."""
        if self.modality != "text":
            return super().encode_texts(texts)
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors_ND = in_passes(self._tokens(texts), self.padding, self.device, self._encode_tokens)
        return to_numpy(self.dense(vectors_ND), self.config.normalise)

    def last_layers(self, count: int) -> LastLayers:
        """See `Encoder.last_layers`."""
        return LastLayers(self.model, count, self.config.pooling, self.config.normalise, self.dense)

    def states(self, contents: list[Any], below: int) -> list[torch.Tensor]:
        """See `Encoder.states`."""
        if self.modality == "text":
            return states_of_texts(self.model, self._tokens(contents), self.padding, self.device, below)
        return states_of_pictures(self.model, self._pixels(contents), below)

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        prefixed = [self.config.prefix + text for text in texts]
        rows: list[list[int]] = self.reader(prefixed, truncation=True, max_length=self.max_tokens)["input_ids"]
        return rows

    def _pixels(self, images: list[Image]) -> torch.Tensor:
        pixels: torch.Tensor = self.reader(images, return_tensors="pt")["pixel_values"]
        return pixels.to(self.device, self.dtype)

    def _encode_tokens(self, tokens_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        if self.config.pooling == "pooled":
            return _pooled(self.model, "get_text_features", input_ids=tokens_BT, attention_mask=mask_BT).float()
        hidden_BTD = self.model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state
        return pool(hidden_BTD, mask_BT, self.config.pooling).float()

    @torch.inference_mode()
    def encode_images(self, images: list[Image]) -> NDArray[np.float32]:
        """Vectors [len(images), dimension] of RGB pictures, prepared as the model's own settings say."""
        if self.modality != "image":
            return super().encode_images(images)
        if not images:
            return np.zeros((0, self.dimension), np.float32)
        pixels = self._pixels(images)
        if self.config.pooling == "pooled":
            vectors_BD = _pooled(self.model, "get_image_features", pixel_values=pixels)
        else:
            hidden_BTD = getattr(self.model, "vision_model", self.model)(pixel_values=pixels).last_hidden_state
            if hidden_BTD.ndim == 4:
                hidden_BTD = hidden_BTD.flatten(2).transpose(1, 2)  # a convolutional model's map
            vectors_BD = pool(hidden_BTD, torch.ones_like(hidden_BTD[:, :, 0]).long(), self.config.pooling)
        return to_numpy(vectors_BD.flatten(1), self.config.normalise)

    def _prepare_tokenizer(self) -> None:
        # Padding behind leaves what comes before it as it is in every model; before the text it would shift positions.
        config = getattr(self.model.config, "text_config", self.model.config)
        limits = [getattr(config, "max_position_embeddings", None), self.reader.model_max_length]
        self.max_tokens = min(self.config.max_tokens, *(limit for limit in limits if limit and limit > 0))
        known = (self.reader.pad_token_id, self.reader.eos_token_id, 0)
        self.padding = next(token for token in known if token is not None)


def _load(folder: Path, modality: str, pooling: Pooling, dtype: torch.dtype) -> tuple[Any, Any]:
    # Takes seconds to import, which listing the plug-ins or checking a config should not.
    import transformers as hf

    # The stage shows its own progress, and what is missing is an error below.
    hf.utils.logging.disable_progress_bar()
    hf.utils.logging.set_verbosity_error()
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = hf.AutoConfig.from_pretrained(folder, **local)
    # An encoder-decoder's encoder alone, as in Sentence-T5, is no "model" to transformers.
    encoder_only = modality == "text" and type(config) in hf.MODEL_FOR_TEXT_ENCODING_MAPPING
    auto = hf.AutoModelForTextEncoding if encoder_only else hf.AutoModel
    model, found = auto.from_pretrained(
        folder, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **local
    )
    missing = sorted(name for name in found["missing_keys"] if pooling == "pooled" or "pooler." not in name)
    if missing:
        raise ValueError(f"the file of weights lacks {', '.join(missing[:3])}, which would be random numbers")
    reader = hf.AutoTokenizer if modality == "text" else hf.AutoImageProcessor
    return model, reader.from_pretrained(folder, **local)


def _pooled(model: Any, features: str, **inputs: torch.Tensor) -> torch.Tensor:
    found = getattr(model, features)(**inputs) if hasattr(model, features) else model(**inputs)
    vectors = found if isinstance(found, torch.Tensor) else getattr(found, "pooler_output", None)
    if vectors is None:
        raise UpstreamError(f"{type(model).__name__}: has no pooled output; set pooling to mean or cls")
    return vectors


def _blank() -> Image:
    from PIL import Image as pillow

    return pillow.new("RGB", (32, 32))
