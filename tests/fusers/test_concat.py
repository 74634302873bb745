import numpy as np
import pytest

from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.fusers.concat import Concat, ConcatConfig

TEXT = np.array([[3, 4], [3, 4], [0, 0], [0, 0]], np.float32)
IMAGE = np.array([[0, 0, 5], [0, 0, 0], [0, 0, 5], [0, 0, 0]], np.float32)
VECTORS = {"text": TEXT, "image": IMAGE}
PRESENT = {"text": TEXT.any(axis=1), "image": IMAGE.any(axis=1)}


def test_blocks_by_hand() -> None:
    fused = Concat(ConcatConfig(), {"text": 2, "image": 3}, 0).fuse(VECTORS, PRESENT)
    half = np.sqrt(0.5)
    expected = [[0.6 * half, 0.8 * half, 0, 0, half], [0.6, 0.8, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    np.testing.assert_allclose(fused, expected, atol=1e-6)


def test_weight_is_the_share_of_the_modality() -> None:
    fused = Concat(ConcatConfig(weights={"text": 3.0, "image": 4.0}), {"text": 2, "image": 3}, 0).fuse(VECTORS, PRESENT)
    np.testing.assert_allclose(np.linalg.norm(fused[0, :2]), 0.6, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(fused[0, 2:]), 0.8, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(fused[1, :2]), 1, rtol=1e-6)


def test_length_of_the_vectors_does_not_weigh() -> None:
    fuser = Concat(ConcatConfig(), {"text": 2, "image": 3}, 0)
    longer = {"text": TEXT * 100, "image": IMAGE}
    np.testing.assert_allclose(fuser.fuse(longer, PRESENT), fuser.fuse(VECTORS, PRESENT), rtol=1e-6)


@pytest.mark.parametrize("weights", [{"txt": 1}, {"text": 0}, {"text": -1}])
def test_bad_weights_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="weights"):
        resolve(ConcatConfig, {"weights": weights})
