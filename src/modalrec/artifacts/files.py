"""Files that are whole or absent: written beside their place, synced, then renamed."""

import hashlib
import json
import os
import platform
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BLOCK = 1 << 20


def sha256_file(path: Path) -> str:
    """The hexadecimal SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """The hexadecimal SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Writes a file so that a reader sees the old content or the new, never a part; a private one is its owner's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        mode = 0o600 if private else 0o666
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def file_in_place(target: Path) -> Iterator[Path]:
    """Yields the name of a file beside `target` that takes its place on success and vanishes on failure."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically, indented, with sorted keys."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


@contextmanager
def folder_in_place(target: Path) -> Iterator[Path]:
    """Yields a new folder beside `target` that takes its place on success and vanishes on failure.

    An empty folder may stand at `target` (container launchers create one); anything else must be removed before.
    """
    target = target.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    own = f".{target.name}.{platform.node()}."
    _sweep(target.parent, own)
    building = Path(tempfile.mkdtemp(prefix=f"{own}{os.getpid()}.", dir=target.parent))
    try:
        yield building
        for path in building.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        building.chmod(0o755)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _sweep(folder: Path, own: str) -> None:
    """Removes what processes of this machine were building when they were killed."""
    for left in folder.iterdir():
        process = left.name.removeprefix(own).partition(".")[0]
        if left.name.startswith(own) and process.isdigit() and not Path(f"/proc/{process}").exists():
            shutil.rmtree(left, ignore_errors=True)
