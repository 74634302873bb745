"""Contracts of encoders: subclass them in a test module and give the fixture `encoder`, an instance."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modalrec.encoders import Encoder

TOLERANCE = 2e-6
"""Of batching, in a component of a unit vector: what the order of float32 sums may change."""
TEXTS = [
    "A cowboy doll is jealous of a new spaceman.",
    "Relay",
    "",
    " \t\n ",
    "\U0001f680\U0001f9d1\u200d\U0001f680",
    "d\u00e9j\u00e0 vu \u4f60\u597d \u0645\u0631\u062d\u0628\u0627",
    "word " * 3000,
    "x" * 5000,
    "\x00\x1f",
]


class TextEncoderContract:
    """What every text encoder does; of random weights ask for a smaller `margin`."""

    margin = 0.2

    def test_unit_vectors_for_any_text(self, encoder: Encoder) -> None:
        """Empty, huge and strange texts have vectors as well."""
        _check_vectors(encoder.encode_texts(TEXTS), encoder, len(TEXTS))

    def test_no_texts(self, encoder: Encoder) -> None:
        """No texts give no vectors, of the right length."""
        assert encoder.encode_texts([]).shape == (0, encoder.dimension)

    def test_same_again(self, encoder: Encoder) -> None:
        """The same batch gives the same bits."""
        np.testing.assert_array_equal(encoder.encode_texts(TEXTS[:5]), encoder.encode_texts(TEXTS[:5]))

    def test_vector_does_not_depend_on_the_batch(self, encoder: Encoder) -> None:
        """Alone, in a padded batch, or in another place of it."""
        _check_batching(encoder.encode_texts, TEXTS)

    def test_related_texts_are_nearer(self, encoder: Encoder) -> None:
        """The least that vectors are for: a near copy is nearer than another subject."""
        first, near, far = encoder.encode_texts(
            ["steel screws, 100 pieces", "100 pieces of steel screws", "a love story in Paris"]
        )
        assert first @ near > first @ far + self.margin


class ImageEncoderContract:
    """What every image encoder does; of random weights ask for a smaller `margin`."""

    margin = 0.05

    def test_unit_vectors_for_any_picture(self, encoder: Encoder) -> None:
        """One pixel, extreme shapes, black, grey and white have vectors as well."""
        pictures = _pictures()
        _check_vectors(encoder.encode_images(pictures), encoder, len(pictures))

    def test_no_pictures(self, encoder: Encoder) -> None:
        """No pictures give no vectors, of the right length."""
        assert encoder.encode_images([]).shape == (0, encoder.dimension)

    def test_same_again(self, encoder: Encoder) -> None:
        """The same batch gives the same bits."""
        pictures = _pictures()[:3]
        np.testing.assert_array_equal(encoder.encode_images(pictures), encoder.encode_images(pictures))

    def test_vector_does_not_depend_on_the_batch(self, encoder: Encoder) -> None:
        """Alone or with others, in another place."""
        _check_batching(encoder.encode_images, _pictures())

    def test_related_pictures_are_nearer(self, encoder: Encoder) -> None:
        """The least that vectors are for: a smaller copy is nearer than another picture."""
        coarse = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((192, 256), Image.Resampling.BICUBIC)
        stripes = Image.new("RGB", (192, 256), "white")
        for top in range(0, 256, 16):
            stripes.paste("black", (0, top, 192, top + 8))
        first, near, far = encoder.encode_images([picture, picture.resize((96, 128)), stripes])
        assert first @ near > first @ far + self.margin


def _pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    return [
        Image.fromarray(noise),
        Image.new("RGB", (1, 1), "red"),
        Image.new("RGB", (300, 2), "green"),
        Image.new("RGB", (2, 300), "white"),
        Image.new("RGB", (50, 50), "black"),
        Image.new("RGB", (50, 50), (127, 127, 127)),
    ]


def _check_vectors(vectors_ND: NDArray[np.float32], encoder: Encoder, count: int) -> None:
    assert vectors_ND.dtype == np.float32
    assert vectors_ND.shape == (count, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-5)


def _check_batching(encode: Callable[[list[Any]], NDArray[np.float32]], contents: list[Any]) -> None:
    together = encode(contents)
    backwards = encode(contents[::-1])[::-1]
    alone = np.concatenate([encode([content]) for content in contents])
    np.testing.assert_allclose(together, backwards, atol=TOLERANCE)
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)
