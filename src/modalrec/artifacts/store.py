"""Places: what a user may give as a local folder or as an `s3://` URI, used in one way.

`localized` brings an input here, `delivered` takes an output away, and a `Location` holds checkpoints.
"""

import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modalrec.artifacts.faults import ObjectMissing
from modalrec.artifacts.files import write_bytes
from modalrec.artifacts.s3 import SCHEME, Store, split_object
from modalrec.errors import ArtifactError

__all__ = ["BucketLocation", "FolderLocation", "Location", "Store", "delivered", "localized", "open_location", "remove"]


class Location(ABC):
    """A flat place for small files that are whole or absent, such as checkpoints."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Stores a file under a plain name; a reader sees the old content or the new one."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Stores a file under a name that nobody has; False where it is taken. Of two at once, one succeeds."""

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """The content of a file, or None where there is none."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the files, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Deletes a file; one that is not there is no error."""


class FolderLocation(Location):
    """A location in a local folder, created when the first file comes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, content: bytes) -> None:
        """See `Location.put`."""
        write_bytes(self.folder / name, content)

    def create(self, name: str, content: bytes) -> bool:
        """See `Location.create`."""
        beside = f".{name}.{uuid.uuid4().hex}"
        self.put(beside, content)
        try:
            os.link(self.folder / beside, self.folder / name)
        except FileExistsError:
            return False
        finally:
            self.delete(beside)
        return True

    def get(self, name: str) -> bytes | None:
        """See `Location.get`."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """See `Location.names`; half-written files start with a dot and do not count."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))

    def delete(self, name: str) -> None:
        """See `Location.delete`."""
        (self.folder / name).unlink(missing_ok=True)


class BucketLocation(Location):
    """A location below an `s3://` URI."""

    def __init__(self, store: Store, uri: str) -> None:
        self.store = store
        self.uri = uri.rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        """See `Location.put`."""
        self.store.put_bytes(f"{self.uri}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """See `Location.create`."""
        return self.store.create_bytes(f"{self.uri}/{name}", content)

    def get(self, name: str) -> bytes | None:
        """See `Location.get`."""
        try:
            return self.store.get_bytes(f"{self.uri}/{name}")
        except ObjectMissing:
            return None

    def names(self) -> list[str]:
        """See `Location.names`."""
        return self.store.names(self.uri)

    def delete(self, name: str) -> None:
        """See `Location.delete`."""
        self.store.delete(f"{self.uri}/{name}")


def open_location(uri: str) -> Location:
    """The location at a folder or an `s3://` URI."""
    if uri.startswith(SCHEME):
        return BucketLocation(Store.from_env(), uri)
    return FolderLocation(Path(uri))


def remove(uri: str) -> None:
    """Deletes a folder or everything below an `s3://` URI."""
    if uri.startswith(SCHEME):
        Store.from_env().delete_folder(uri)
    else:
        shutil.rmtree(uri, ignore_errors=True)


@contextmanager
def localized(uri: str) -> Iterator[Path]:
    """Yields a local path to an input: a given path as it is, an `s3://` object or folder as a temporary copy.

    Raises:
        ArtifactError: Nothing is stored at the URI.
        UpstreamError: The store does not answer or delivers something else than was stored.
    """
    if not uri.startswith(SCHEME):
        yield Path(uri)
        return
    _, key = split_object(uri)
    with tempfile.TemporaryDirectory(prefix="modalrec-") as temporary:
        path = Path(temporary) / key.rsplit("/", 1)[-1]
        Store.from_env().get(uri, path)
        yield path


@contextmanager
def delivered(uri: str) -> Iterator[Path]:
    """Yields a local path for an output folder; for an `s3://` URI a temporary one that is uploaded on success.

    Raises:
        ArtifactError: The place is taken; found before any work is done.
    """
    if not uri.startswith(SCHEME):
        path = Path(uri)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ArtifactError(f"{uri}: exists and is not empty; remove it or name another folder")
        yield path
        return
    _, key = split_object(uri)
    store = Store.from_env()
    if store.exists(f"{uri.rstrip('/')}/manifest.json"):
        raise ArtifactError(f"{uri}: an artifact is stored there already; delete it or name another place")
    with tempfile.TemporaryDirectory(prefix="modalrec-") as temporary:
        path = Path(temporary) / key.rsplit("/", 1)[-1]
        yield path
        store.put_folder(path, uri)
