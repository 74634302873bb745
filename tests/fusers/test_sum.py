import numpy as np

from modalrec.fusers.sum import Sum, SumConfig


def _unit(rows: int, length: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, length)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_shortened_vectors_keep_their_cosines_about() -> None:
    text, flags = _unit(200, 1024, 0), {"text": np.ones(200, bool)}
    text[100:] = text[:100] + 0.5 * _unit(100, 1024, 1)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    fused = Sum(SumConfig(dimension=256), {"text": 1024}, 0).fuse({"text": text}, flags)
    error = fused @ fused.T - text @ text.T
    assert abs(error.mean()) < 0.005
    assert error.std() < 1.2 / np.sqrt(256)


def test_lengthened_and_equal_vectors_keep_their_cosines_exactly() -> None:
    text, flags = _unit(50, 64, 0), {"text": np.ones(50, bool)}
    longer = Sum(SumConfig(dimension=100), {"text": 64}, 0).fuse({"text": text}, flags)
    np.testing.assert_allclose(longer @ longer.T, text @ text.T, atol=1e-5)
    equal = Sum(SumConfig(dimension=64), {"text": 64}, 0).fuse({"text": text}, flags)
    np.testing.assert_allclose(equal, text, atol=1e-6)


def test_modalities_of_one_length_keep_their_common_space() -> None:
    text, image = _unit(50, 512, 0), _unit(50, 512, 1)
    both = {"text": np.ones(50, bool), "image": np.ones(50, bool)}
    fuser = Sum(SumConfig(dimension=256), {"text": 512, "image": 512}, 0)
    np.testing.assert_allclose(
        fuser.fuse({"text": text, "image": image}, both), fuser.fuse({"text": image, "image": text}, both), atol=1e-6
    )


def test_weights_and_seed_count() -> None:
    vectors, both = (
        {"text": _unit(9, 40, 0), "image": _unit(9, 60, 1)},
        {"text": np.ones(9, bool), "image": np.ones(9, bool)},
    )
    lengths = {"text": 40, "image": 60}
    only_text = {"text": both["text"], "image": ~both["image"]}
    text_alone = Sum(SumConfig(), lengths, 0).fuse(vectors, only_text)
    plain = Sum(SumConfig(), lengths, 0).fuse(vectors, both)
    heavy = Sum(SumConfig(weights={"text": 50.0}), lengths, 0).fuse(vectors, both)
    assert (text_alone * heavy).sum(axis=1).min() > 0.99
    assert (text_alone * plain).sum(axis=1).max() < 0.95
    assert abs((plain * Sum(SumConfig(), lengths, 1).fuse(vectors, both)).sum(axis=1)).max() < 0.5
