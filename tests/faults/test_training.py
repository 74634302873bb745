"""Training that cannot go on: it stops with step, batch and the last good checkpoint; a collapse is reported."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.errors import TrainingError
from modalrec.run import Run
from modalrec.stages import EDGES
from modalrec.stages.quantize import Config, quantize
from modalrec.testing.quantizers import mixture
from modalrec.training import loop, steps
from modalrec.training.loop import fit
from tests.faults.tiny import TINY, run_tiny, write_inputs
from tests.stages.small import write_embeddings
from tests.training.test_loop import QUIET, Line, Points, config

TRAINED = ["quantize rqvae", "quantize vqvae", "quantize fsq"]
TRAINED += [name for name in TINY if name.startswith("finetune")]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("training"))


def poison(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """All weights become NaN before the n-th step."""
    begin, batch = loop._steps, loop._batch
    models: list[nn.Module] = []
    count = iter(range(1, 10**6))

    def watched(model: nn.Module, *arguments: object) -> object:
        models.append(model)
        return begin(model, *arguments)  # type: ignore[arg-type]

    def poisoned(*arguments: object) -> object:
        if next(count) == at:
            for parameter in models[-1].parameters():
                parameter.data.fill_(math.nan)
        return batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "_steps", watched)
    monkeypatch.setattr(loop, "_batch", poisoned)


@pytest.mark.fault("training")
@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_that_is_not_finite_ends_training_behind_its_last_good_checkpoint(
    name: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = EDGES[TINY[name].output]
    with monkeypatch.context() as patched:
        poison(patched, 2)
        said = r"epoch \d, step \d+ \(batch \d+ of \d+\): .*nan.*The last good checkpoint is step-0000000001-"
        with pytest.raises(TrainingError, match=said):
            run_tiny(name, inputs, tmp_path)
    assert not (tmp_path / "out").exists()
    state = torch.load(max(tmp_path.rglob("step-*.pt")), weights_only=True)
    assert all(value.isfinite().all() for value in state["model"].values() if value.is_floating_point())
    resumed = read_manifest(run_tiny(name, inputs, tmp_path), kind)
    assert resumed.digest == read_manifest(run_tiny(name, inputs, tmp_path / "whole"), kind).digest


@pytest.mark.fault("training")
def test_an_exploding_gradient_ends_training_and_clipping_goes_on() -> None:
    settings = {"learning_rate": 1e30, "weight_decay": 0, "schedule": "constant"}
    with pytest.raises(TrainingError, match=r"loss inf, gradient norm .*There is no checkpoint yet"):
        fit(Line(), Points(slope=1e38), config=config(clip_norm=0, **settings), run=QUIET, fingerprint="x")
    model = Line()
    fit(model, Points(slope=1e6), config=config(clip_norm=1, epochs=2), run=QUIET, fingerprint="x")
    assert model.weight.isfinite().all()


class Greedy(Line):
    """Wants more memory than there is, at some step."""

    def __init__(self, error: Callable[[], object], at: int = 4) -> None:
        super().__init__()
        self.error, self.at = error, at

    def loss(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.at -= 1
        if not self.at:
            self.error()
        return super().loss(batch)


def no_room_on_the_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


WANTS: dict[str, Callable[[], object]] = {
    "tensor": lambda: torch.empty(1 << 60, dtype=torch.uint8),
    "array": lambda: np.empty(1 << 60, np.uint8),
    "gpu": no_room_on_the_gpu,
}


@pytest.mark.fault("training")
@pytest.mark.parametrize("want", WANTS)
def test_too_little_memory_is_said_with_step_and_batch(want: str, tmp_path: Path) -> None:
    run = Run("quantize", device="cpu", quiet=True, checkpoints=str(tmp_path), checkpoint_seconds=0)
    said = r"epoch 1, step 4 \(batch 4 of 8\): out of memory; lower training.batch_size \(8\).*step-0000000003"
    with pytest.raises(TrainingError, match=said):
        fit(Greedy(WANTS[want]), Points(), config=config(), run=run, fingerprint="x" * 64)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        fit(Greedy(lambda: torch.ones(2).view(3)), Points(), config=config(), run=QUIET, fingerprint="x")


SMALL = {
    "rqvae": {"levels": 2, "codebook_size": 16, "hidden": [16]},
    "vqvae": {"slots": 2, "codebook_size": 16, "hidden": [16]},
    "rq_kmeans": {"levels": 2, "codebook_size": 16},
}


@pytest.mark.fault("training")
@pytest.mark.parametrize("form", ["semantic_id", "groups"])
@pytest.mark.parametrize("name", SMALL)
def test_a_collapse_is_reported(name: str, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All items but a few have the same vector."""
    vectors = np.tile(mixture()[0].numpy()[:1], (400, 1))
    vectors[:3] += 1
    said = coded(name, form, vectors, tmp_path / "same", capsys)
    assert "collapsed" in said
    assert "collapsed" not in coded(name, form, mixture()[0].numpy(), tmp_path / "others", capsys)


def coded(name: str, form: str, vectors: np.ndarray, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the stage says about these vectors."""
    source = write_embeddings(folder / "embeddings", vectors.astype(np.float32))
    chosen = {"quantizer": {"name": name, **SMALL[name]}, "training": {"epochs": 1}, "form": form}
    run = Run("quantize", device="cpu")
    quantize(folder / "codes", source, config=resolve(Config, chosen), run=run)
    return capsys.readouterr().err


@pytest.mark.guard("training")
def test_without_the_guard_weights_take_what_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "math", SimpleNamespace(isfinite=lambda value: True, inf=math.inf))
    model, points = Line(), Points()
    points.y[5] = math.nan
    fit(model, points, config=config(epochs=1), run=QUIET, fingerprint="x")
    assert not model.weight.isfinite().all()
