"""Two runs on one place for checkpoints, a folder or a bucket: the second refuses, or follows one that is gone."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.store import FolderLocation, Location, open_location
from modalrec.errors import TrainingError, UpstreamError
from modalrec.run import Run
from modalrec.stages._shards import Shards
from modalrec.training import lease
from modalrec.training.checkpoint import Checkpoints
from modalrec.training.lease import Lease
from tests.faults.processes import in_child
from tests.faults.tiny import run_tiny, write_inputs
from tests.stages.killed_embed import run_stage
from tests.stages.small import write_dataset

HELD = "another run with the same configuration, inputs and seed is at work here"


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, store_env: EmbeddedStore, prefix: str, tmp_path: Path) -> str:
    return str(tmp_path / "checkpoints") if request.param == "folder" else f"{prefix}/checkpoints"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 2.0)


def leave(location: Location, **said: object) -> None:
    """The lease of a run that did not give it back."""
    location.put("lease-000004", json.dumps({"host": "other", "pid": 7, "started": "1", "id": "x", **said}).encode())


def end_at_once(place: str) -> None:
    """A process that takes the lease and dies with it."""
    import os
    import signal

    with Lease(open_location(place), place).held():
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.fault("together")
def test_a_second_run_is_refused_and_a_later_one_is_not(place: str) -> None:
    location = open_location(place)
    with Lease(location, place).held():
        with pytest.raises(UpstreamError, match=rf"{HELD} \(process \d+ on "), Lease(location, place).held():
            pass
        assert location.names() == ["lease-000001"]
    assert location.names() == []
    with Lease(location, place).held():
        pass


@pytest.mark.fault("together")
def test_a_killed_process_of_this_machine_is_followed_at_once(
    place: str, store_env: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3600.0)
    assert in_child(take_and_die, place, store_env.env()) == -9
    location = open_location(place)
    assert location.names() == ["lease-000001"]
    with Lease(location, place).held():
        assert location.names() == ["lease-000002"]


def take_and_die(place: str, env: dict[str, str]) -> None:
    import os

    os.environ.update(env)
    end_at_once(place)


@pytest.mark.fault("together")
def test_a_silent_run_of_another_machine_is_followed_when_its_lease_has_expired(place: str, quick: None) -> None:
    location = open_location(place)
    leave(location)
    with Lease(location, place).held():
        assert location.names() == ["lease-000005"]


@pytest.mark.fault("together")
def test_a_run_of_another_machine_that_renews_its_lease_is_left_alone(place: str, quick: None) -> None:
    location = open_location(place)
    leave(location, renewals=0)
    threading.Timer(0.3, leave, [location], {"renewals": 1}).start()
    with pytest.raises(UpstreamError, match=rf"{HELD} \(process 7 on other\)"), Lease(location, place).held():
        pass


@pytest.mark.fault("together")
def test_of_many_at_once_one_gets_it(place: str) -> None:
    location, got = open_location(place), []
    ready = threading.Barrier(6)

    def race(number: int) -> None:
        ready.wait()
        if location.create("lease-000001", str(number).encode()):
            got.append(number)

    threads = [threading.Thread(target=race, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert location.get("lease-000001") == str(got[0]).encode()


@pytest.mark.fault("together")
def test_who_stood_still_for_too_long_writes_nothing_more(place: str) -> None:
    location = open_location(place)
    stood_still = Lease(location, place)
    with stood_still.held():
        leave(location)  # another one took over, under the next number
        with pytest.raises(UpstreamError, match="another run has taken over these checkpoints"):
            stood_still.check()
    assert location.names() == ["lease-000001", "lease-000004"]


@pytest.mark.fault("together")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_lease_is_nobodys(content: bytes, tmp_path: Path, quick: None) -> None:
    location = FolderLocation(tmp_path)
    location.put("lease-000001", content)
    with Lease(location, "here").held():
        assert location.names() == ["lease-000002"]


@pytest.mark.fault("together")
def test_a_training_beside_another_is_refused_and_both_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    seen = []
    save = Checkpoints.save

    def beside(self: Checkpoints, *arguments: object) -> None:
        if not seen:
            seen.append(1)
            with pytest.raises(UpstreamError, match=HELD):
                run_tiny("finetune sasrec", inputs, tmp_path / "second", {"checkpoints": str(tmp_path / "checkpoints")})
        save(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "save", beside)
    run_tiny("finetune sasrec", inputs, tmp_path)
    assert seen
    assert not list(tmp_path.rglob("lease-*")), "given back"
    assert not (tmp_path / "second" / "out").exists()


@pytest.mark.fault("together")
def test_an_embedding_beside_another_is_refused_and_pays_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, add, encoded = write_dataset(tmp_path / "dataset", ["a", "b", "c"]), Shards.add, []

    def beside(self: Shards, vectors_BD: NDArray[np.float32]) -> None:
        encoded.append(1)
        if len(encoded) == 1:
            with pytest.raises(UpstreamError, match=HELD):
                run_stage(str(dataset), str(tmp_path / "second"), str(tmp_path / "shards"))
        add(self, vectors_BD)

    monkeypatch.setattr(Shards, "add", beside)
    run_stage(str(dataset), str(tmp_path / "first"), str(tmp_path / "shards"))
    assert len(encoded) == 1, "the second encoded nothing"
    assert not list(tmp_path.rglob("lease-*")), "given back"
    assert not (tmp_path / "second").exists()


@pytest.mark.fault("together")
def test_an_embedding_that_stood_still_writes_no_shard(tmp_path: Path) -> None:
    run = Run("embed_text", checkpoints=str(tmp_path), checkpoint_seconds=0, quiet=True)
    shards = Shards(run, "f" * 64, 2)
    with shards.alone():
        leave(open_location(str(tmp_path / "embed_text" / ("f" * 32))))
        with pytest.raises(UpstreamError, match="another run has taken over"):
            shards.add(np.zeros((1, 2), np.float32))
    assert not list(tmp_path.rglob("shard-*"))


@pytest.mark.fault("together")
def test_a_run_that_fails_gives_its_lease_back(tmp_path: Path) -> None:
    with pytest.raises(TrainingError), Lease(FolderLocation(tmp_path), "here").held():
        raise TrainingError("the loss is not finite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.guard("together")
def test_without_the_condition_of_create_two_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(self: FolderLocation, name: str, content: bytes) -> bool:
        self.put(name, content)
        return True

    monkeypatch.setattr(FolderLocation, "create", create)
    location = FolderLocation(tmp_path)
    assert [location.create("lease-000001", b"1"), location.create("lease-000001", b"2")] == [True, True]
