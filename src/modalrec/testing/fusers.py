"""Contract of fusers: subclass it in a test module and give the fixture `make`, which builds one."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from modalrec.fusers import Fuser

DIMENSIONS = {"text": 48, "image": 80}
TEXT, IMAGE, NONE = slice(10, 20), slice(20, 30), slice(30, 32)
"""Items that have a text only, a picture only, nothing; those before have both."""

Make = Callable[[Mapping[str, int], int], Fuser]


class FuserContract:
    """What every fuser does; `make(dimensions, seed)` builds it."""

    def test_unit_vectors_and_zero_without_any_modality(self, make: Make) -> None:
        """Items with one modality have a vector like the others; items without any have none."""
        fuser = make(DIMENSIONS, 0)
        fused = fuser.fuse(*_batch())
        assert fused.dtype == np.float32
        assert fused.shape == (32, fuser.dimension)
        np.testing.assert_allclose(np.linalg.norm(fused[:30], axis=1), 1, atol=1e-5)
        assert not fused[NONE].any()

    def test_missing_modality_does_not_count(self, make: Make) -> None:
        """What lies in a row that is not present changes nothing."""
        fuser = make(DIMENSIONS, 0)
        vectors, present = _batch()
        dirty = {name: np.where(present[name][:, None], vectors[name], np.float32(7)) for name in vectors}
        np.testing.assert_array_equal(fuser.fuse(dirty, present), fuser.fuse(vectors, present))

    def test_neighbours_stay_neighbours(self, make: Make) -> None:
        """Items alike in their modalities are alike after fusion, whichever modalities they have."""
        fuser = make(DIMENSIONS, 0)
        vectors, present = _batch()
        rng = np.random.default_rng(1)
        near = {name: v + 0.02 * rng.standard_normal(v.shape, np.float32) for name, v in vectors.items()}
        similarity = fuser.fuse(vectors, present)[:30] @ fuser.fuse(near, present)[:30].T
        np.testing.assert_array_equal(similarity.argmax(axis=1), np.arange(30))

    def test_one_modality_alone(self, make: Make) -> None:
        """A single modality is enough."""
        vectors, present = _batch()
        fuser = make({"text": DIMENSIONS["text"]}, 0)
        fused = fuser.fuse({"text": vectors["text"]}, {"text": present["text"]})
        assert fused.shape == (32, fuser.dimension)
        np.testing.assert_allclose(np.linalg.norm(fused, axis=1), present["text"], atol=1e-5)

    def test_no_items(self, make: Make) -> None:
        """No items give no vectors, of the right length."""
        fuser = make(DIMENSIONS, 0)
        vectors, present = _batch()
        none = fuser.fuse({n: v[:0] for n, v in vectors.items()}, {n: p[:0] for n, p in present.items()})
        assert none.shape == (0, fuser.dimension)

    def test_same_seed_same_vectors(self, make: Make) -> None:
        """Another process with the same seed gives the same bits, in pieces the same up to rounding."""
        vectors, present = _batch()
        fused = make(DIMENSIONS, 3).fuse(vectors, present)
        np.testing.assert_array_equal(fused, make(DIMENSIONS, 3).fuse(vectors, present))
        fuser = make(DIMENSIONS, 3)
        pieces = [
            fuser.fuse({n: v[i : i + 5] for n, v in vectors.items()}, {n: p[i : i + 5] for n, p in present.items()})
            for i in range(0, 32, 5)
        ]
        np.testing.assert_allclose(np.concatenate(pieces), fused, atol=1e-6)


def _batch() -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.bool_]]]:
    rng = np.random.default_rng(0)
    present = {name: np.ones(32, np.bool_) for name in DIMENSIONS}
    present["image"][TEXT] = present["text"][IMAGE] = False
    present["text"][NONE] = present["image"][NONE] = False
    vectors = {name: rng.standard_normal((32, length), np.float32) for name, length in DIMENSIONS.items()}
    return {name: vectors[name] * present[name][:, None] for name in vectors}, present
