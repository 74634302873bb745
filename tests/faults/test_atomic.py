"""Killed inside write, fsync and rename: what was there before is intact, or what is new is whole; never half."""

import json
import signal
from pathlib import Path

import pytest

from modalrec.artifacts.embedded import EmbeddedStore
from tests.faults.processes import in_child
from tests.faults.writing import MOMENTS, WRITERS, read_json, write_carelessly, write_until


@pytest.mark.fault("atomic")
@pytest.mark.parametrize("old", [None, 1], ids=["first", "over an older one"])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("writer", WRITERS)
def test_a_killed_writer_leaves_the_old_or_the_new(writer: str, moment: str, old: int | None, tmp_path: Path) -> None:
    write, read = WRITERS[writer]
    place, version = str(tmp_path / "place"), 2 if old else 1
    if old:
        write(place, old)
    last = {"artifact": {"write": 3, "fsync": 4, "synced": 4, "rename": 2, "renamed": 2}}.get(writer, {}).get(moment, 1)
    assert in_child(write_until, writer, place, version, moment, last, {}) == -signal.SIGKILL
    assert read(place) == (version if moment == "renamed" else old)
    if moment != "renamed" or writer != "artifact":
        write(place, version)  # what the killed one left is no obstacle
    assert read(place) == version


@pytest.mark.fault("atomic")
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_artifact_that_was_killed_at_its_first_files_is_absent(moment: str, nth: int, tmp_path: Path) -> None:
    place = str(tmp_path / "place")
    WRITERS["artifact"][0](place, 1)
    ended = in_child(write_until, "artifact", place, 2, moment, nth, {})
    assert ended == -signal.SIGKILL
    assert WRITERS["artifact"][1](place) == (2 if (moment, nth) == ("renamed", 2) else 1)
    if (moment, nth) != ("renamed", 2):
        assert not (tmp_path / "place" / "codes-2").exists()
        WRITERS["artifact"][0](place, 2)
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["codes-1", "codes-2"], "no litter"


@pytest.mark.fault("atomic")
@pytest.mark.parametrize("writer", ["checkpoint", "shard"])
@pytest.mark.parametrize("old", [None, 1], ids=["first", "over an older one"])
def test_a_killed_upload_leaves_the_old_or_the_new(
    writer: str, old: int | None, store_env: EmbeddedStore, prefix: str
) -> None:
    write, read = WRITERS[writer]
    if old:
        write(prefix, old)
    assert in_child(upload_until, writer, prefix, 2 if old else 1, store_env.env()) == -signal.SIGKILL
    assert read(prefix) == old
    write(prefix, 3)
    assert read(prefix) == 3


def upload_until(writer: str, place: str, version: int, env: dict[str, str]) -> None:
    """Uploads, and is killed when half of the body has been sent."""
    import http.client
    import os

    send = http.client.HTTPConnection.send

    def half(self: http.client.HTTPConnection, data: object) -> None:
        if isinstance(data, bytes | bytearray | memoryview) and len(data) > 10_000:
            send(self, bytes(data[: len(data) // 2]))
            os.kill(os.getpid(), signal.SIGKILL)
        send(self, data)  # type: ignore[arg-type]

    http.client.HTTPConnection.send = half  # type: ignore[method-assign]
    os.environ.update(env)
    WRITERS[writer][0](place, version)


@pytest.mark.guard("atomic")
def test_a_write_right_to_its_place_is_found_half(tmp_path: Path) -> None:
    place = str(tmp_path / "place")
    WRITERS["manifest"][0](place, 1)
    assert in_child(write_carelessly, "manifest", place, 2, "write", 1, {}) == -signal.SIGKILL
    with pytest.raises(json.JSONDecodeError):
        read_json(place)
