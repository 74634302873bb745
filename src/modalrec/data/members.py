"""Files inside of a zip, read as files on disk are."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from modalrec.data.archives import open_zip


class Member:
    """One file of a zip, which is read without unpacking it to disk.

    Attributes:
        archive: The zip.
        name: The file's name without the folders it is in.
        suffix: The end of the name from the last dot on.
        size: Bytes that it unpacks to.
    """

    def __init__(self, archive: Path, opened: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        self.archive = archive
        self.name = PurePosixPath(entry.filename).name
        self.suffix = PurePosixPath(entry.filename).suffix
        self.size = entry.file_size
        self._opened, self._entry = opened, entry

    def __str__(self) -> str:
        return f"{self.archive}/{self._entry.filename}"

    def is_file(self) -> bool:
        """A member is there as long as its zip is."""
        return self.archive.is_file()

    def open(self) -> IO[bytes]:
        """The content, unpacked on the way."""
        return self._opened.open(self._entry)


File = Path | Member
"""What can be read from the beginning to the end."""


def members(archive: Path) -> dict[str, dict[str, File]]:
    """The files of a zip by folder and name.

    Raises:
        DataError: It is no complete zip, or not safe to read.
    """
    opened = open_zip(archive)
    found: dict[str, dict[str, File]] = {}
    for entry in opened.infolist():
        path = PurePosixPath(entry.filename)
        if not entry.is_dir() and "__MACOSX" not in path.parts:
            found.setdefault(str(path.parent), {})[path.name] = Member(archive, opened, entry)
    return found
