import subprocess
import sys

import numpy as np
from PIL import Image

from modalrec.encoders.hashing import Hashing, HashingConfig


def test_other_process_gives_the_same_bits() -> None:
    """Python's own hash() would differ under another PYTHONHASHSEED."""
    program = (
        "from modalrec.encoders.hashing import *\n"
        "e = Hashing(HashingConfig(dimension=16), 'cpu')\n"
        "print(e.encode_texts(['Toy Story', 'heat']).tobytes().hex())\n"
        "print(e.encode_images([Image.new('RGB', (9, 7), 'red')]).tobytes().hex())"
    )
    outputs = {
        subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True).stdout
        for seed in ("1", "2")
    }
    encoder = Hashing(HashingConfig(dimension=16), "cpu")
    texts = encoder.encode_texts(["Toy Story", "heat"]).tobytes().hex()
    picture = encoder.encode_images([Image.new("RGB", (9, 7), "red")]).tobytes().hex()
    assert outputs == {f"{texts}\n{picture}\n".encode()}


def test_order_of_words_counts_and_case_does_not() -> None:
    encoder = Hashing(HashingConfig(dimension=4096), "cpu")
    a, shouted, turned = encoder.encode_texts(["man bites dog", "MAN BITES DOG", "dog bites man"])
    np.testing.assert_allclose(a @ shouted, 1, rtol=1e-6)
    assert 0.4 < a @ turned < 0.8


def test_repeated_words_count_less_than_fully() -> None:
    encoder = Hashing(HashingConfig(dimension=4096), "cpu")
    once, often = encoder.encode_texts(["war peace", "war peace " + "war. " * 20])
    # Logarithms of the counts give 0.59, the counts themselves would give 0.47.
    assert 0.55 < once @ often < 0.65


def test_colours_at_their_places_count() -> None:
    encoder = Hashing(HashingConfig(dimension=256), "cpu")
    picture = Image.new("RGB", (64, 64), "navy")
    picture.paste("yellow", (0, 0, 64, 32))
    near, far = picture.copy(), picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    near.paste("orange", (0, 0, 20, 20))
    a, b, c = encoder.encode_images([picture, near, far])
    assert a @ b > 0.8
    assert a @ c < 0.2
