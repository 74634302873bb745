"""Vectors that were paid for, by the digest of their text: kept where checkpoints are, and never asked for twice."""

import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.store import Location, open_location

# B texts, D length of a vector.

DIGEST_BYTES = 16
PART = "vectors-"


def digest_of_text(text: str) -> bytes:
    """What a text is known by."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


class VectorCache:
    """Vectors of length D by digest; each `add` becomes a part at the location, whole or absent, before it returns.

    Here the vectors lie in a file without a name, so that memory holds about 150 bytes a text. Threads may share it.

    Args:
        uri: Folder or `s3://` URI; None keeps nothing beyond this process.
        dimension: D.
        say: Takes a line for the user.
    """

    def __init__(self, uri: str | None, dimension: int, say: Callable[[str], None] = lambda line: None) -> None:
        self.location: Location | None = open_location(uri) if uri else None
        self.row = np.dtype([("digest", f"V{DIGEST_BYTES}"), ("vector", "<f4", (dimension,))])
        self._say = say
        self._lock = threading.Lock()
        self._places: dict[bytes, int] = {}
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  (closes with the cache)
        for name in self.location.names() if self.location else []:
            if name.startswith(PART):
                self._restore(name)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, digests: Sequence[bytes], vectors_BD: NDArray[np.float32]) -> None:
        """Keeps the vectors of texts."""
        rows = np.empty(len(digests), self.row)
        rows["digest"] = np.frombuffer(b"".join(digests), rows["digest"].dtype)
        rows["vector"] = vectors_BD
        content = rows.tobytes()
        if self.location is not None and len(rows):
            self.location.put(f"{PART}{hashlib.sha256(content).hexdigest()}", content)
        self._take(rows)

    def get(self, digests: Sequence[bytes]) -> NDArray[np.float32]:
        """The vectors [B, D] of texts that are all here."""
        length = self.row["vector"].itemsize
        found = [os.pread(self._file.fileno(), length, length * self._places[digest]) for digest in digests]
        return np.frombuffer(b"".join(found), "<f4").reshape(len(digests), *self.row["vector"].shape).astype(np.float32)

    def _take(self, rows: NDArray[np.void]) -> None:
        with self._lock:
            fresh = [place for place, row in enumerate(rows) if row["digest"].tobytes() not in self._places]
            first = len(self._places)
            self._file.write(np.ascontiguousarray(rows["vector"][fresh]).tobytes())
            self._places |= {rows["digest"][place].tobytes(): first + i for i, place in enumerate(fresh)}

    def _restore(self, name: str) -> None:
        content = self.location.get(name) if self.location else None
        whole = content is not None and name == f"{PART}{hashlib.sha256(content).hexdigest()}"
        if content is None or not whole or len(content) % self.row.itemsize:
            self._say(f"{name} in the cache is damaged and left out: its texts are asked for again")
            return
        self._take(np.frombuffer(content, self.row))
