"""Writers of everything that must be whole or absent, and the moments at which a process that writes can be killed."""

import io
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modalrec.artifacts import files, read_manifest, write_artifact
from modalrec.config import Config
from modalrec.errors import ArtifactError
from modalrec.run import Run
from modalrec.stages._shards import Shards
from modalrec.training.checkpoint import Checkpoints

LONG = 20_000


def _checkpoints(place: str) -> Checkpoints:
    return Checkpoints(Run("quantize", checkpoints=place, quiet=True), "f" * 64)


def write_checkpoint(place: str, version: int) -> None:
    _checkpoints(place).save(version, 0, {"version": version, "weights": torch.full((LONG,), float(version))})


def read_checkpoint(place: str) -> int | None:
    found = _checkpoints(place).load()
    assert found is None or (found["weights"] == found["version"]).all()
    return found and found["version"]


def _shards(place: str) -> Shards:
    run = Run("embed_text", checkpoints=place, checkpoint_seconds=0, quiet=True)
    return Shards(run, "f" * 64, LONG)


def write_shard(place: str, version: int) -> None:
    """The shards up to the n-th: each holds one vector of its number."""
    shards = _shards(place)
    for number in range(shards.restore(lambda _: None), version):
        shards.add(np.full((1, LONG), number, np.float32))


def read_shard(place: str) -> int | None:
    found: list[np.ndarray] = []
    count = _shards(place).restore(lambda content: found.append(np.frombuffer(content, np.float32)))
    assert len(found) == count
    assert all((vector == number).all() for number, vector in enumerate(found))
    return count or None


def write_json(place: str, version: int) -> None:
    files.write_json(Path(place) / "state.json", {"version": version, "text": str(version) * LONG})


def read_json(place: str) -> int | None:
    path = Path(place) / "state.json"
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    assert found["text"] == str(found["version"]) * LONG
    return found["version"]


def write_file(place: str, version: int) -> None:
    with files.file_in_place(Path(place) / "table") as beside, files_open(beside, "wb") as file:
        file.write(bytes([version]) * LONG)


def read_file(place: str) -> int | None:
    path = Path(place) / "table"
    if not path.exists():
        return None
    content = path.read_bytes()
    assert content == content[:1] * LONG
    return content[0]


def write_folder(place: str, version: int) -> None:
    """An artifact of three files; the first time, the place holds a launcher's empty folder."""
    target = Path(place) / f"codes-{version}"
    with write_artifact(target, "codes", stage="quantize", config=Config(), seed=version, inputs={}) as work:
        for name in ("a", "b", "c"):
            with files_open(work.folder / name, "wb") as file:
                file.write(bytes([version]) * LONG)


def read_folder(place: str) -> int | None:
    """The newest artifact that is whole; a folder without a manifest is no artifact."""
    for target in sorted(Path(place).glob("codes-*"), reverse=True):
        try:
            return read_manifest(target, "codes").seed
        except ArtifactError as error:
            assert "has no manifest.json" in str(error)  # noqa: PT017 -- the only thing that may be missing
    return None


WRITERS: dict[str, tuple[Callable[[str, int], None], Callable[[str], int | None]]] = {
    "checkpoint": (write_checkpoint, read_checkpoint),
    "shard": (write_shard, read_shard),
    "manifest": (write_json, read_json),
    "file": (write_file, read_file),
    "artifact": (write_folder, read_folder),
}
MOMENTS = ("write", "fsync", "synced", "rename", "renamed")
"""In the middle of the content; before and behind an fsync; before and behind the rename that makes it seen."""


def files_open(path: Any, mode: str) -> Any:
    """`open` as a stage's own writers use it, with the moment in the middle of a write."""
    return files.__dict__.get("open", open)(path, mode)


def write_until(writer: str, place: str, version: int, moment: str, nth: int, env: Mapping[str, str]) -> None:
    """Writes, and is killed at the n-th moment of a kind."""
    os.environ.update(env)
    seen = iter(range(1, 1_000))

    def die() -> None:
        if next(seen) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    class Halves:
        """A file that is killed when half of something is written."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> "Halves":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: bytes) -> None:
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            die()
            self.file.write(content[len(content) // 2 :])

    os.fsync = _between(os.fsync, {"fsync": "before", "synced": "behind"}.get(moment), die)
    os.replace = _between(os.replace, {"rename": "before", "renamed": "behind"}.get(moment), die)
    if moment == "write":
        files.open = lambda *arguments: Halves(io.open(*arguments))  # type: ignore[attr-defined]  # noqa: SIM115, UP020
    WRITERS[writer][0](place, version)


def _between(work: Callable[..., Any], where: str | None, die: Callable[[], None]) -> Callable[..., Any]:
    def watched(*arguments: Any) -> Any:
        if where == "before":
            die()
        work(*arguments)
        if where == "behind":
            die()

    return watched


def write_carelessly(writer: str, place: str, version: int, moment: str, nth: int, env: Mapping[str, str]) -> None:
    """The same with writes that go right to their place."""

    def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
        with files_open(path, "wb") as file:
            file.write(content)

    files.write_bytes = write_bytes
    write_until(writer, place, version, moment, nth, env)
