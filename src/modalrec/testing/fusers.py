"""Contract of fusers: subclass it in a test module and give the fixture `make`, which builds one.

Those that are trained keep `TrainedFuserContract` as well, which also takes the fixture `config`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modalrec.config import Config
from modalrec.fusers import Fuser, TrainedFuser, load_fuser, save_fuser
from modalrec.run import Run
from modalrec.stages._fuse_learn import Modalities, ModalityBatches, Shares, learn, share_out
from modalrec.stages._fuse_measure import measure, retrieval
from modalrec.training.loop import TrainingConfig

DIMENSIONS = {"text": 48, "image": 80}
TEXT, IMAGE, NONE = slice(10, 20), slice(20, 30), slice(30, 32)
"""Items that have a text only, a picture only, nothing; those before have both."""

Make = Callable[[Mapping[str, int], int], Fuser]
TRAINING = TrainingConfig(epochs=25, batch_size=128, warmup_steps=5, patience=8)


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


def paired(n: int = 500, seed: int = 0) -> Modalities:
    """Texts and pictures that show the same 12 hidden numbers of an item, each its own way and with noise."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((n, 12))
    vectors = {}
    for name, length in DIMENSIONS.items():
        shown = hidden @ rng.standard_normal((12, length)) + 0.3 * rng.standard_normal((n, length))
        vectors[name] = shown.astype(np.float32)
    return Modalities(np.array([f"i{row}" for row in range(n)], object), vectors, _all(n))


def trained(
    make: Make, modalities: Modalities, run: Run | None = None, shares: Shares | None = None, epochs: int = 25
) -> tuple[TrainedFuser, Shares]:
    """A fuser after training, and what its items were for."""
    run = run or Run("contract", device="cpu", quiet=True)
    fuser = make({name: vectors.shape[1] for name, vectors in modalities.vectors.items()}, run.seed)
    assert isinstance(fuser, TrainedFuser)
    shares = shares or share_out(modalities, None, 0.2, 0.1, run)
    learn(fuser, modalities, shares, TRAINING.model_copy(update={"epochs": epochs}), run, "f" * 64)
    return fuser, shares


class TrainedFuserContract:
    """What every fuser does that learns; `config` is what `make` builds it from."""

    def test_gradients_reach_every_parameter(self, make: Make) -> None:
        """Also where some items lack a modality."""
        torch.manual_seed(0)
        modalities = _with_gaps(paired())
        fuser = make(DIMENSIONS, 0)
        assert isinstance(fuser, TrainedFuser)
        batch = modalities.rows(np.arange(200))
        fuser.initialise(batch)
        losses = fuser.train().loss(batch)
        losses["loss"].backward()
        assert all(torch.isfinite(value) for value in losses.values())
        idle = [name for name, p in fuser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_learns_which_picture_is_whose(self, make: Make) -> None:
        """Pairs are found on held-out items; where there are none, nothing is: the objective has no other way out."""
        modalities = paired()
        fuser, shares = trained(make, modalities)
        found = measure(fuser, modalities, shares)
        assert min(found["text_to_image_recall_1"], found["image_to_text_recall_1"]) > 0.7
        assert min(found["text_explained_variance"], found["image_explained_variance"]) > 0.7
        mixed = np.random.default_rng(1).permutation(len(modalities.item_ids))
        vectors = {"text": modalities.vectors["text"], "image": modalities.vectors["image"][mixed]}
        strangers = Modalities(modalities.item_ids, vectors, modalities.present)
        lost, _ = trained(make, strangers, shares=shares)
        assert measure(lost, strangers, shares)["text_to_image_recall_1"] < 0.1
        valid = shares.valid
        assert lost.held_out_loss(strangers.rows(valid)) > fuser.held_out_loss(modalities.rows(valid)) + 1

    def test_one_modality_finds_the_whole_item(self, make: Make) -> None:
        """A held-out item fused from one is near itself fused from both, though no train item lacked any."""
        modalities = paired()
        fuser, shares = trained(make, modalities, epochs=40)
        vectors, present = _take(modalities, shares.test)
        whole = fuser.fuse(vectors, present)
        for name in DIMENSIONS:
            alone = fuser.fuse(vectors, {other: flags & (other == name) for other, flags in present.items()})
            assert retrieval(alone, whole)["recall_10"] > 0.7

    def test_training_sees_what_it_is_given_alone(self, make: Make) -> None:
        """Wild vectors outside of the items to learn from and to stop by change no bit of another item."""
        modalities = paired(200)
        fuser, shares = trained(make, modalities, epochs=3)
        wild = {name: vectors.copy() for name, vectors in modalities.vectors.items()}
        for name in wild:
            wild[name][shares.test] = 1e18
        other, _ = trained(make, Modalities(modalities.item_ids, wild, modalities.present), shares=shares, epochs=3)
        rest = np.concatenate([shares.train, shares.valid])
        before, after = fuser.fuse(modalities.vectors, modalities.present), other.fuse(wild, modalities.present)
        np.testing.assert_array_equal(before[rest], after[rest])
        assert np.isfinite(after).all()

    def test_saved_and_loaded_fuses_the_same(self, make: Make, config: Config, tmp_path: Path) -> None:
        """The folder alone is enough."""
        modalities = _with_gaps(paired(200))
        fuser, _ = trained(make, modalities, epochs=2)
        save_fuser(tmp_path, fuser, config, DIMENSIONS, 0)
        fused = fuser.fuse(modalities.vectors, modalities.present)
        np.testing.assert_array_equal(load_fuser(tmp_path).fuse(modalities.vectors, modalities.present), fused)

    def test_a_stopped_run_resumes_to_the_same_bits(
        self, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped in the middle of an epoch; the masks and dropouts of the rest are those of a whole run."""
        modalities = paired(300)
        whole, _ = trained(make, modalities, epochs=3)
        run = Run("contract", device="cpu", checkpoints=str(tmp_path), checkpoint_seconds=0, quiet=True)
        build, built = ModalityBatches.build, []

        def dying(self: ModalityBatches, *place: object) -> object:
            built.append(place)
            if len(built) == 4:
                raise KeyboardInterrupt
            return build(self, *place)  # type: ignore[arg-type]

        monkeypatch.setattr(ModalityBatches, "build", dying)
        with pytest.raises(KeyboardInterrupt):
            trained(make, modalities, run, epochs=3)
        resumed, _ = trained(make, modalities, run, epochs=3)
        assert len(built) < 4 + 3 * 2, "it began where it had stopped"
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_degenerate_vectors_stay_finite(self, make: Make) -> None:
        """Equal, zero, extreme, nearly all missing, one item: trained and fused without a number that is none."""
        whole = paired(40)
        equal = {name: np.ones_like(vectors) for name, vectors in whole.vectors.items()}
        zero = {name: np.zeros_like(vectors) for name, vectors in whole.vectors.items()}
        huge = {name: vectors * np.float32(1e30) for name, vectors in whole.vectors.items()}
        for vectors in (equal, zero, huge):
            self._finite(make, Modalities(whole.item_ids, vectors, whole.present))
        fuser, _ = trained(make, whole, epochs=2)
        longer, plain = fuser.fuse(huge, whole.present), fuser.fuse(whole.vectors, whole.present)
        np.testing.assert_allclose(longer, plain, atol=1e-5, err_msg="the length of the vectors counts")
        present = {name: np.arange(40) == place for place, name in enumerate(DIMENSIONS)}
        self._finite(make, Modalities(whole.item_ids, whole.vectors, present))
        vectors, present = _take(whole, np.array([0]))
        self._finite(make, Modalities(whole.item_ids[:1], vectors, present))

    def test_learns_from_one_modality(self, make: Make) -> None:
        """With texts alone the fused vector still tells most of the text."""
        both = paired()
        modalities = Modalities(both.item_ids, {"text": both.vectors["text"]}, {"text": both.present["text"]})
        fuser, shares = trained(make, modalities)
        assert measure(fuser, modalities, shares)["text_explained_variance"] > 0.7

    @staticmethod
    def _finite(make: Make, modalities: Modalities) -> None:
        fuser, shares = trained(make, modalities, epochs=2)
        assert np.isfinite(fuser.fuse(modalities.vectors, modalities.present)).all()
        assert np.isfinite(list(measure(fuser, modalities, shares).values())).all()


def _all(n: int) -> dict[str, NDArray[np.bool_]]:
    return {name: np.ones(n, np.bool_) for name in DIMENSIONS}


def _with_gaps(modalities: Modalities) -> Modalities:
    """Every fifth item without its picture, every seventh without its text."""
    places = np.arange(len(modalities.item_ids))
    present = {"text": places % 7 != 3, "image": places % 5 != 2}
    vectors = {name: modalities.vectors[name] * present[name][:, None] for name in present}
    return Modalities(modalities.item_ids, vectors, present)


def _take(
    modalities: Modalities, rows: NDArray[np.int64]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.bool_]]]:
    vectors = {name: values[rows] for name, values in modalities.vectors.items()}
    return vectors, {name: flags[rows] for name, flags in modalities.present.items()}
