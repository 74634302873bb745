"""Files by name from a folder, a zip or a rar, read into memory one at a time.

An archive whose names leave its folder, or that unpacks to far more than it holds, is refused as a whole before any
entry is read.
"""

import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from modalrec.errors import DataError, Problems

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
MAX_RATIO = 200
"""Pictures hardly shrink; an entry that unpacks to more than this many times its size is no picture."""
SMALL = 1 << 20
"""Entries of up to this many bytes may shrink as they like."""
MAX_ENTRIES = 2_000_000
"""Entries of a zip; names alone of more would fill the memory of a laptop."""


class BadFile(Exception):
    """One file that cannot be used; the message is the reason, short enough to count by."""


class Archive(ABC):
    """Pictures by name."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path = path
        self._names: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        for name in sorted(names):
            for key in dict.fromkeys(
                (name, name.rpartition(".")[0], PurePosixPath(name).name, PurePosixPath(name).stem)
            ):
                if self._names.setdefault(key, name) != name and key != name:
                    self._twice[key] = name
        self._names.update({name: name for name in names})

    def find(self, key: str) -> str | None:
        """The name of the file that is meant by a full name, or by a name without its folder or suffix.

        Raises:
            DataError: Two files could be meant.
        """
        name = self._names.get(key)
        if name is not None and key != name and key in self._twice:
            raise DataError(
                f"{self.path}: {key!r} may be {name!r} or {self._twice[key]!r}; write the full name in the items table"
            )
        return name

    @abstractmethod
    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file.

        Raises:
            BadFile: It is missing, damaged or larger than `max_bytes`.
        """


class Folder(Archive):
    """Files in a folder and the folders below; links that leave it are refused."""

    def __init__(self, path: Path) -> None:
        problems = Problems(path)
        root = path.resolve()
        names = []
        for parent, _, files in os.walk(path):
            for file in files:
                full = Path(parent, file)
                if full.suffix.lower() not in SUFFIXES or file.startswith("."):
                    continue
                if full.is_symlink() and not full.resolve().is_relative_to(root):
                    problems.add(str(full.relative_to(path)), "is a link that leaves the folder")
                elif full.exists() and not full.is_file():  # to open a pipe would wait for ever
                    problems.add(str(full.relative_to(path)), "is a pipe, a socket or a device")
                names.append(full.relative_to(path).as_posix())
        problems.raise_if_any("Put plain files there")
        super().__init__(path, names)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a file, see `Archive.read`."""
        try:
            with (self.path / name).open("rb") as file:
                content = file.read(max_bytes + 1)
        except OSError as error:
            raise BadFile(f"cannot be read: {error.strerror}") from None
        return checked(content, max_bytes)


class Zip(Archive):
    """Files in a zip."""

    def __init__(self, path: Path) -> None:
        self._zip = open_zip(path)
        names = [entry.filename for entry in self._zip.infolist() if is_picture(entry.filename, entry.is_dir())]
        super().__init__(path, names)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of an entry, see `Archive.read`."""
        try:
            with self._zip.open(name) as file:
                content = file.read(max_bytes + 1)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError):
            raise BadFile("damaged in the zip") from None
        return checked(content, max_bytes)


def open_archive(path: Path) -> Archive:
    """Opens a folder, a zip or a rar.

    Raises:
        DataError: It is none of them, is damaged, or is not safe to read.
        UpstreamError: It is a rar, and what reads them is not installed.
    """
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such folder, zip or rar; put the pictures there or change the source's config")
    if path.suffix.lower() == ".rar":
        from modalrec.data.rar import Rar

        return Rar(path)
    return Zip(path)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Opens a zip whose entries are all safe to read.

    Raises:
        DataError: It is damaged, or an entry leaves its folder, is a link, is encrypted or unpacks to far too much.
    """
    try:
        opened = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"{path}: is not a complete zip ({error}); fetch it again") from None
    problems = Problems(path)
    if len(opened.infolist()) > MAX_ENTRIES:
        problems.add("", f"has {len(opened.infolist()):,} entries, more than {MAX_ENTRIES:,}")
    for entry in opened.infolist():
        fault = _fault(entry)
        if fault:
            problems.add(f"entry {entry.filename!r}", fault)
    if len(problems):
        opened.close()
    problems.raise_if_any("Nothing was read from it. Make the zip again from plain files, with relative names")
    return opened


def is_inside(name: str) -> bool:
    """Whether a relative name, as zips and tables hold it, stays in its folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return not (parts.is_absolute() or ".." in parts.parts or name[1:2] == ":")


def is_picture(name: str, is_folder: bool) -> bool:
    """Whether an entry of an archive is a picture by its name."""
    path = PurePosixPath(name)
    # Archives made on a Mac carry a second, hidden file for each one.
    hidden = path.name.startswith(".") or "__MACOSX" in path.parts
    return not is_folder and not hidden and path.suffix.lower() in SUFFIXES


def _fault(entry: zipfile.ZipInfo) -> str:
    if not is_inside(entry.filename):
        return "its name leaves the folder"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a pipe, a socket or a device"
    if entry.flag_bits & 0x1:
        return "is encrypted"
    if entry.file_size > SMALL and entry.file_size > MAX_RATIO * entry.compress_size:
        return f"unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes"
    return ""


def checked(content: bytes, max_bytes: int) -> bytes:
    """The content of a file of which at most one byte more than `max_bytes` was read.

    Raises:
        BadFile: It is longer, or empty.
    """
    if len(content) > max_bytes:
        raise BadFile("too many bytes")
    if not content:
        raise BadFile("empty file")
    return content
