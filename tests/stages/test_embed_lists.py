"""Items with several vectors: sentences of a text, keywords of a picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embedding_lists import VectorLists, load_lists
from modalrec.config import resolve
from modalrec.data.images import open_image
from modalrec.encoders.hashing import Hashing, HashingConfig
from modalrec.encoders.open_clip import OpenCLIP, OpenCLIPConfig
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.embed_image import Config as ImageConfig
from modalrec.stages.embed_image import embed_image
from modalrec.stages.embed_text import Config as TextConfig
from modalrec.stages.embed_text import embed_text
from tests.encoders.small import folder_of
from tests.stages.small import jpeg, write_dataset

RUN = Run("embed", device="cpu", quiet=True)
TEXTS = ["Red glue here. Dries fast. Dries fast. Very good.", None, "Dries fast.", "One. Two22. Three. Four44. Five55."]
PICTURES = {0: jpeg("red"), 2: jpeg("navy"), 3: jpeg("red")}
HASHING = {"name": "hashing", "dimension": 16}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", TEXTS, PICTURES)


def vectors_of(lists: VectorLists, item: int) -> np.ndarray:
    return lists.vectors_VD[lists.of(np.array([item]))[0]]


def test_every_sentence_is_a_vector_and_equal_ones_are_encoded_once(dataset: Path, tmp_path: Path) -> None:
    config = resolve(TextConfig, {"encoder": HASHING, "max_sentences": 3, "batch_size": 2})
    metrics = embed_text(dataset, tmp_path / "text", config=config, run=RUN)
    assert metrics == {"items": 4, "present": 3, "missing": 1, "distinct": 6, "dimension": 16, "vectors": 7}
    _, lists = load_lists(tmp_path / "text")
    encoder = Hashing(HashingConfig(dimension=16), "cpu")
    expected = [["Red glue here.", "Dries fast.", "Very good."], [], ["Dries fast."], ["One.", "Two22.", "Three."]]
    for item, texts in enumerate(expected):
        np.testing.assert_allclose(vectors_of(lists, item), encoder.encode_texts(texts), atol=1e-6)


def keywords(**settings: Any) -> dict[str, Any]:
    chosen = {"num_image_tokens": 3, "vocabulary": ["red", "blue", "glue", "square", "paper"], "encoder": HASHING}
    return chosen | settings


def test_a_picture_is_the_words_that_a_clip_model_finds_best(dataset: Path, tmp_path: Path) -> None:
    """A CLIP of random weights through the real loading code: the words are arbitrary, the ranking is not."""
    clip = {"name": "open_clip", "model": str(folder_of("open_clip"))}
    config = resolve(ImageConfig, {"encoder": clip, "keywords": keywords(), "batch_size": 2})
    metrics = embed_image(dataset, tmp_path / "image", config=config, run=RUN)
    assert metrics == {"items": 4, "present": 3, "missing": 1, "distinct": 2, "dimension": 16, "vectors": 9}
    statistics = read_manifest(tmp_path / "image", "embeddings").statistics
    assert (statistics["encoder"], statistics["form"]) == ("open_clip", "keywords")
    _, lists = load_lists(tmp_path / "image")
    words = config.keywords.vocabulary if config.keywords else ()
    tower = OpenCLIP(OpenCLIPConfig(model=clip["model"]), "cpu", "text")
    prompts = tower.encode_texts([f"a photo of {word}" for word in words])
    pictures = OpenCLIP(OpenCLIPConfig(model=clip["model"]), "cpu", "image")
    for item, picture in PICTURES.items():
        fits = (pictures.encode_images([open_image(picture)]) @ prompts.T)[0]
        best = [words[place] for place in np.argsort(-fits)[:3]]
        expected = Hashing(HashingConfig(dimension=16), "cpu").encode_texts(best)
        np.testing.assert_allclose(vectors_of(lists, item), expected, atol=1e-6)


@pytest.mark.parametrize("normalise", [True, False])
def test_words_are_ranked_by_cosine_whatever_the_length_of_their_vectors(
    normalise: bool, dataset: Path, tmp_path: Path
) -> None:
    """A long vector is no better word."""
    clip = {"name": "open_clip", "model": str(folder_of("open_clip")), "normalise": normalise}
    tower = OpenCLIP(OpenCLIPConfig(model=clip["model"], normalise=False), "cpu", "text")
    words = [f"word{number}" for number in range(60)]
    prompts = tower.encode_texts([f"a photo of {word}" for word in words])
    pictures = OpenCLIP(OpenCLIPConfig(model=clip["model"]), "cpu", "image")
    config = resolve(ImageConfig, {"encoder": clip, "keywords": keywords(vocabulary=words, num_image_tokens=8)})
    embed_image(dataset, tmp_path / "image", config=config, run=RUN)
    _, lists = load_lists(tmp_path / "image")
    for item, picture in PICTURES.items():
        fits = (pictures.encode_images([open_image(picture)]) @ prompts.T)[0]
        best = [words[place] for place in np.argsort(-fits / np.linalg.norm(prompts, axis=1))[:8]]
        expected = Hashing(HashingConfig(dimension=16), "cpu").encode_texts(best)
        np.testing.assert_allclose(vectors_of(lists, item), expected, atol=1e-6)


def test_words_come_from_the_items_texts_where_none_are_given(dataset: Path, tmp_path: Path) -> None:
    config = resolve(ImageConfig, {"encoder": HASHING, "keywords": keywords(vocabulary=[], vocabulary_size=4)})
    embed_image(dataset, tmp_path / "image", config=config, run=RUN)
    _, lists = load_lists(tmp_path / "image")
    frequent = Hashing(HashingConfig(dimension=16), "cpu").encode_texts(["dries", "fast", "five", "four"])
    assert {tuple(row) for row in lists.vectors_VD.tolist()} <= {tuple(row) for row in frequent.tolist()}
    bare = write_dataset(tmp_path / "bare", ["of it", None], {0: jpeg("red")})
    with pytest.raises(DataError, match=r"have 0 words.*give keywords.vocabulary"):
        embed_image(bare, tmp_path / "none", config=config, run=RUN)
    assert not (tmp_path / "none").exists()


def test_an_encoder_of_pictures_alone_has_no_keywords() -> None:
    with pytest.raises(ConfigError, match=r"keywords: the encoder efficientnet has no texts .* take open_clip"):
        resolve(ImageConfig, {"keywords": {}})
    with pytest.raises(ConfigError, match="2 words for num_image_tokens=3"):
        resolve(ImageConfig, {"encoder": HASHING, "keywords": keywords(vocabulary=["a", "b"])})
