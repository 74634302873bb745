"""Pictures in a rar, read by libarchive.

A rar gives its files from front to back alone, and a dataset wants them in the order of its items: the first read
copies all pictures to one file without a name in the folder for temporary files, which is gone at the end.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modalrec.data.archives import MAX_RATIO, SMALL, Archive, BadFile, checked, is_inside, is_picture
from modalrec.errors import DataError, Problems, UpstreamError

SIGNATURES = {b"Rar!\x1a\x07\x00": "rar", b"Rar!\x1a\x07\x01": "rar5"}
"""How a file begins, and what libarchive calls its form; no other of its forms is let in, since some read the disk."""


class Rar(Archive):
    """Files in a rar; refused as a whole where names leave the folder or it unpacks to far more than it holds."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._form = SIGNATURES.get(file.read(7), "")
        if not self._form:
            raise DataError(f"{path}: is no rar; fetch it again")
        problems = Problems(path)
        names: list[str] = []
        total = 0
        with _entries(path, self._form) as entries:
            for entry in entries:
                total += entry.size or 0
                if fault := _fault(entry):
                    problems.add(f"entry {entry.pathname!r}", fault)
                elif is_picture(entry.pathname, entry.isdir):
                    names.append(entry.pathname)
        self._most = max(SMALL, MAX_RATIO * path.stat().st_size)
        if total > self._most:
            problems.add("", f"unpacks from {path.stat().st_size:,} to {total:,} bytes")
        problems.raise_if_any("Nothing was read from it. Make the rar again from plain files, with relative names")
        super().__init__(path, names)
        self._copy: Any = None
        self._places: dict[str, tuple[int, int]] = {}

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of an entry, see `Archive.read`."""
        if self._copy is None:
            self._copy = tempfile.TemporaryFile(prefix="modalrec-pictures-")  # noqa: SIM115 -- as long as this object
            self._copy_all()
        if name not in self._places:
            raise BadFile("damaged in the rar")
        begin, length = self._places[name]
        self._copy.seek(begin)
        return checked(self._copy.read(min(length, max_bytes + 1)), max_bytes)

    def _copy_all(self) -> None:
        """Copies what can be read; an entry that is damaged has no place then."""
        end = 0
        with _entries(self.path, self._form) as entries:
            for entry in entries:
                if self._names.get(entry.pathname) != entry.pathname:
                    continue
                begin = end
                try:
                    for block in entry.get_blocks():
                        end += len(block)
                        if end > self._most:  # headers may lie about sizes
                            raise DataError(f"{self.path}: unpacks to more than {self._most:,} bytes; fetch it again")
                        self._copy.write(block)
                    self._places[entry.pathname] = begin, end - begin
                except _library().ArchiveError:
                    end = self._copy.seek(begin)


def _library() -> Any:
    """The module, which looks for the system's library when it is imported."""
    try:
        import libarchive
    except (ImportError, OSError, AttributeError, TypeError) as error:
        raise UpstreamError(
            f"libarchive, which reads rar files, is not installed ({error}). Install the system's package (on Debian "
            "`apt install libarchive13`) and `pip install libarchive-c`; or unpack the rar to a folder of its name "
            "without .rar, and take the rar away"
        ) from None
    return libarchive


@contextmanager
def _entries(path: Path, form: str) -> Iterator[Any]:
    library = _library()
    try:
        with library.file_reader(str(path), format_name=form, filter_name="none") as entries:
            yield entries
    except (library.ArchiveError, OSError) as error:
        raise DataError(f"{path}: is no complete rar ({error}); fetch it again") from None


def _fault(entry: Any) -> str:
    if not entry.pathname or not is_inside(entry.pathname):
        return "its name leaves the folder"
    if not (entry.isfile or entry.isdir):
        return "is a link or a device"
    return ""
