"""SIGKILL and SIGTERM at steps, checkpoints and any moment of every trained plug-in: the resumed run has the same bits.

Each run is killed again and again, and every time begun again in a new process; what it ends with is then compared with
a run that was never killed: the artifact by the digest of its manifest, the last checkpoint tensor by tensor.
"""

import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from modalrec import plugins
from modalrec.artifacts import read_manifest
from modalrec.stages import EDGES
from modalrec.training.checkpoint import Checkpoints
from tests.faults.processes import in_child
from tests.faults.tiny import TINY, run_watched, write_inputs

BY_STEPS = [1, 3, 5, 7]
"""The lease is synced; a batch is asked for; the first checkpoint is renamed; the second one is synced."""
IN_CHECKPOINTS = [name for name in TINY if name.split()[0] in ("pretrain", "finetune")]


@dataclass(frozen=True)
class Whole:
    """A run that was not killed."""

    place: Path
    moments: int
    seconds: float


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def whole(inputs: Path) -> Callable[[str], Whole]:
    """Gives the whole run of a name, made once."""
    made: dict[str, Whole] = {}

    def get(name: str) -> Whole:
        if name not in made:
            place = inputs / "whole" / name.replace(" ", "_")
            place.mkdir(parents=True)
            assert in_child(run_watched, name, inputs, place) == 0
            moments, seconds = (place / "spent").read_text().split()
            made[name] = Whole(place, int(moments), float(seconds))
        return made[name]

    return get


def same_bits(name: str, resumed: Path, whole: Path) -> None:
    """The artifact, and the last checkpoint with optimizer, RNG and the place in the data."""
    kind = EDGES[TINY[name].output]
    assert read_manifest(resumed / "out", kind).digest == read_manifest(whole / "out", kind).digest
    first, second = (sorted(place.rglob("step-*.pt")) for place in (resumed, whole))
    assert [path.name.rsplit("-", 1)[0] for path in first] == [path.name.rsplit("-", 1)[0] for path in second]
    for mine, theirs in zip(first, second, strict=True):
        assert equal(*(torch.load(path, weights_only=True) for path in (mine, theirs))), mine.name


def equal(mine: Any, theirs: Any) -> bool:
    """Whether two nested states are the same to the bit."""
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(equal(mine[key], theirs[key]) for key in mine)
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(map(equal, mine, theirs))
    return torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs


def kills(name: str, inputs: Path, whole: Whole, place: Path) -> int:
    """Kills a run at one moment after the other; gives how often it was killed."""
    by_steps = [at for at in BY_STEPS if at < whole.moments] if whole.moments > 3 else [1, 2]
    moments: list[dict[str, Any]] = [{"at": at} for at in by_steps]
    moments += [{"seconds": share * whole.seconds} for share in (0.15, 0.35)]
    moments += [{"rename_to": str(place / "out")}]
    killed = 0
    for moment in moments:
        if in_child(run_watched, name, inputs, place, moment) == -signal.SIGKILL:
            killed += 1
            assert not (place / "out").exists(), "no artifact before its end"
        else:  # by time: it went on near the end, and was faster than the rest of its time
            shutil.rmtree(place / "out")
    return killed


@pytest.mark.fault("kill")
@pytest.mark.parametrize("name", TINY)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(
    name: str, inputs: Path, whole: Callable[[str], Whole], tmp_path: Path, record_property: Callable[..., None]
) -> None:
    killed = kills(name, inputs, whole(name), tmp_path)
    assert killed >= 3
    assert in_child(run_watched, name, inputs, tmp_path) == 0
    same_bits(name, tmp_path, whole(name).place)
    record_property("cases", killed)


def test_every_trained_plug_in_is_killed() -> None:
    for kind, stage, field in (("quantizers", "quantize", "quantizer"), ("recommenders", "finetune", "recommender")):
        tried = {tiny.settings[field]["name"] for tiny in TINY.values() if tiny.stage == stage}
        assert tried == set(plugins.discover(kind))


@pytest.mark.guard("kill")
@pytest.mark.parametrize("lost", ["rng", "steps", "state"])
def test_what_a_checkpoint_holds_is_needed(
    lost: str, inputs: Path, whole: Callable[[str], Whole], tmp_path: Path
) -> None:
    """Without the random state, the optimizer or the place in the data, the bits are others."""
    name = "finetune sasrec"
    assert in_child(run_watched, name, inputs, tmp_path, {"at": 8}) == -signal.SIGKILL
    assert in_child(run_forgetful, lost, name, inputs, tmp_path) == 0
    with pytest.raises(AssertionError):
        same_bits(name, tmp_path, whole(name).place)


def run_forgetful(lost: str, name: str, inputs: Path, place: Path) -> None:
    """Resumes from checkpoints that lack a part."""
    load = Checkpoints.load

    def without(self: Checkpoints) -> dict[str, Any] | None:
        found = load(self)
        if found and lost == "rng":
            found["rng"] = {"cpu": torch.get_rng_state()}
        elif found and lost == "steps":
            moments = [part for part in tensors(found["steps"]) if part.is_floating_point()]
            for moment in moments:
                moment.zero_()
        elif found:
            found["state"] |= {"epoch": 0, "step": 0}
        return found

    Checkpoints.load = without  # type: ignore[method-assign]
    run_watched(name, inputs, place)


def tensors(state: Any) -> list[torch.Tensor]:
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else []
    return [leaf for part in parts for leaf in tensors(part)]


@pytest.mark.fault("terminate")
@pytest.mark.parametrize("name", ["quantize rqvae", *(name for name in IN_CHECKPOINTS if name.startswith("finetune"))])
def test_sigterm_writes_a_checkpoint_ends_with_143_and_the_next_run_goes_on(
    name: str, inputs: Path, whole: Callable[[str], Whole], tmp_path: Path
) -> None:
    """With a checkpoint every hour, so that the one found is the one of the signal."""
    assert in_child(run_rarely_saving, name, inputs, tmp_path) == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()
    assert len(list(tmp_path.rglob("step-*.pt"))) == 1
    assert in_child(run_watched, name, inputs, tmp_path) == 0
    same_artifact = [
        read_manifest(place / "out", EDGES[TINY[name].output]).digest for place in (tmp_path, whole(name).place)
    ]
    assert same_artifact[0] == same_artifact[1]


def run_rarely_saving(name: str, inputs: Path, place: Path, deaf: bool = False) -> None:
    """A run that SIGTERM reaches when it asks for its second batch."""
    from contextlib import contextmanager
    from threading import Event

    from modalrec.training import loop

    if deaf:

        @contextmanager
        def nothing() -> Any:
            yield Event()

        loop._terminated = nothing
    moments = {"at": 4, "number": signal.SIGTERM}
    run_watched(name, inputs, place, moments, {"checkpoint_seconds": 3600})


@pytest.mark.guard("terminate")
def test_without_the_handler_sigterm_leaves_no_checkpoint(inputs: Path, tmp_path: Path) -> None:
    assert in_child(run_rarely_saving, "finetune sasrec", inputs, tmp_path, True) == -signal.SIGTERM
    assert not list(tmp_path.rglob("step-*.pt"))
