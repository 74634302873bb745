"""Pictures as keywords: the words that a model of texts and pictures finds in one, as vectors of a text encoder.

So do texts and pictures lie in one space, whatever space the model itself has (MP4SR, arXiv 2303.11879).
"""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts.files import sha256_json
from modalrec.data.texts import load_texts
from modalrec.encoders import Encoder
from modalrec.encoders.minilm import MiniLMConfig
from modalrec.errors import DataError

# B pictures, V words, K words of a picture, D length of a word's vector.

WORD = re.compile(r"[^\W\d_]{3,}(?:-[^\W\d_]+)*")
WORDS = 256
"""Words encoded at a time."""


class KeywordsConfig(configs.Config):
    """Which words, and what makes vectors of them.

    Attributes:
        num_image_tokens: Words of a picture, those that fit it best; named as in MP4SR's code.
        vocabulary: The words to choose from; by default the most frequent ones of the items' texts.
        vocabulary_size: How many of those.
        prompt: What the model is given of a word.
        encoder: The encoder of the words: the one of `embed_text`, for both modalities to lie in one space.
    """

    num_image_tokens: int = Field(15, ge=1)
    vocabulary: tuple[str, ...] = ()
    vocabulary_size: int = Field(10_000, ge=1)
    prompt: str = "a photo of {}"
    encoder: plugins.any_config("encoders") = MiniLMConfig()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _words_are_enough(self) -> "KeywordsConfig":
        given = len(set(self.vocabulary)) if self.vocabulary else self.vocabulary_size
        if given < self.num_image_tokens:
            raise ValueError(f"{given} words for num_image_tokens={self.num_image_tokens}; give more words")
        if "{}" not in self.prompt:
            raise ValueError(f"prompt={self.prompt!r} has no place for the word; write {{}} there")
        return self


class Keywords(Encoder):
    """Of a picture, the numbers of its words in place of a vector: rows of `words_VD`, best first.

    Args:
        images: The picture tower of a model of texts and pictures.
        texts: Its text tower.
        words: The encoder of the words.
        vocabulary: The words.
        config: The settings.

    Attributes:
        words_VD: The vectors of the words.
    """

    modalities = frozenset({"image"})

    def __init__(
        self, images: Encoder, texts: Encoder, words: Encoder, vocabulary: list[str], config: KeywordsConfig
    ) -> None:
        self.images, self.dimension = images, config.num_image_tokens
        self.weights = sha256_json([images.weights, texts.weights, words.weights])
        prompts_VE = _encoded(texts, [config.prompt.format(word) for word in vocabulary])
        # A score is a cosine; the picture's own length moves no word past another.
        self.prompts_VE = prompts_VE / np.maximum(np.linalg.norm(prompts_VE, axis=1, keepdims=True), 1e-12)
        self.words_VD = _encoded(words, vocabulary)

    def encode_images(self, images: list[Image]) -> NDArray[np.float32]:
        """[B, K] numbers of words, as float32, which is exact up to 16 million."""
        fits_BV = self.images.encode_images(images) @ self.prompts_VE.T
        return np.argsort(-fits_BV, axis=1, kind="stable")[:, : self.dimension].astype(np.float32)


def vocabulary_of(dataset: Path, config: KeywordsConfig) -> list[str]:
    """The words to choose from: the given ones, or the most frequent ones of the items' texts, in small letters.

    Raises:
        DataError: The texts have fewer words than a picture is to get.
    """
    if config.vocabulary:
        return list(dict.fromkeys(config.vocabulary))
    counts: Counter[str] = Counter()
    for _, texts in load_texts(dataset):
        for text in texts:
            counts.update(set(WORD.findall(text.lower())))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: config.vocabulary_size]
    if len(frequent) < config.num_image_tokens:
        raise DataError(
            f"{dataset}: the items' texts have {len(frequent)} words, keywords.num_image_tokens is "
            f"{config.num_image_tokens}; give keywords.vocabulary"
        )
    return frequent


def _encoded(encoder: Encoder, texts: list[str]) -> NDArray[np.float32]:
    return np.concatenate([encoder.encode_texts(texts[begin : begin + WORDS]) for begin in range(0, len(texts), WORDS)])
