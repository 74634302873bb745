"""Columns that are written piece by piece and read back as arrays, in files that go when nobody uses them."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Columns:
    """A folder of growing columns: what does not fit into memory stays on disk, and the system caches what is used.

    The folder is deleted with the last of the arrays that were read from it, or with this object.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="modalrec-columns-")
        self._files: dict[str, Any] = {}
        self._types: dict[str, np.dtype[Any]] = {}

    def append(self, name: str, values: NDArray[Any], dtype: DTypeLike) -> None:
        """Writes values at the end of a column."""
        if name not in self._files:
            self._files[name] = (Path(self._folder.name) / name).open("wb")
            self._types[name] = np.dtype(dtype)
        self._files[name].write(np.ascontiguousarray(values, self._types[name]).data)

    def __contains__(self, name: str) -> bool:
        """Whether anything was ever appended to a column."""
        return name in self._files

    def read(self, name: str) -> NDArray[Any]:
        """A column as a read-only array."""
        self._files[name].close()
        path = Path(self._folder.name) / name
        if not path.stat().st_size:
            return np.empty(0, self._types[name])
        return _Kept.of(np.memmap(path, self._types[name], mode="r"), self._folder)


class _Kept(np.ndarray):
    """An array that keeps the folder of its file from being deleted; so does every part of it."""

    folder: Any

    @classmethod
    def of(cls, array: NDArray[Any], folder: Any) -> "_Kept":
        kept = array.view(cls)
        kept.folder = folder
        return kept

    def __array_finalize__(self, parent: Any) -> None:
        self.folder = getattr(parent, "folder", None)
