"""Shards: the vectors that an embedding stage has finished, kept so that a killed run goes on behind them.

They lie where checkpoints do, under stage and fingerprint. The contents of a dataset are encoded in one fixed order, so
a shard is its place in that order and float32 numbers; its name carries the digest of its content.
"""

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from modalrec.run import Run
from modalrec.training.checkpoint import open_place

# B vectors of a batch, D length of the vectors.

SHARD_BYTES = 64 << 20
"""Vectors kept in memory at most before they become a shard, however short the time."""


class Shards:
    """The shards of one embedding run; does nothing where the run keeps none.

    Shards end where batches do. A resumed run therefore makes the same batches as one that was not interrupted, and
    with them the same bits.

    Args:
        run: The stage's run.
        fingerprint: Of everything that the vectors depend on.
        dimension: Length of the vectors, D.
    """

    def __init__(self, run: Run, fingerprint: str, dimension: int) -> None:
        self.run = run
        self.dimension = dimension
        self.location, self.lease = open_place(run, fingerprint)
        self._first = 0
        self._waiting: list[bytes] = []
        self._saved = time.monotonic()

    def alone(self) -> AbstractContextManager[None]:
        """Holds the place against other runs while the block is at work: what is encoded, or paid for, is so once.

        Raises:
            UpstreamError: Another run is at work there.
        """
        return self.lease.held() if self.lease else nullcontext()

    def restore(self, take: Callable[[bytes], object]) -> int:
        """Hands over the shards that are whole, from the first on, and gives the number of their vectors.

        What lies behind a damaged shard is dropped: it would have to be joined to other batches.
        """
        names = [name for name in self.location.names() if name.startswith("shard-")] if self.location else []
        for place, name in enumerate(names):
            content = self._whole(name)
            if content is None or self.location is None:
                self.run.say(f"{name} is damaged or out of place; encoding from content {self._first + 1} on")
                for other in names[place:]:
                    if self.location is not None:
                        self.location.delete(other)
                break
            take(content)
            self._first += self._count(content)
        if self._first:
            self.run.say(f"going on behind {self._first:,} contents that an interrupted run encoded")
        return self._first

    def add(self, vectors_BD: NDArray[np.float32]) -> None:
        """Takes the vectors of the next batch; every `checkpoint_seconds` those that wait become a shard."""
        if self.location is None:
            return
        self._waiting.append(vectors_BD.tobytes())
        full = sum(map(len, self._waiting)) >= SHARD_BYTES
        if full or time.monotonic() - self._saved >= self.run.checkpoint_seconds:
            content = b"".join(self._waiting)
            digest = hashlib.sha256(content).hexdigest()
            if self.lease and self.lease.name:
                self.lease.check()
            self.location.put(f"shard-{self._first:012d}-{self._count(content)}-{digest}.f32", content)
            self._first += self._count(content)
            self._waiting = []
            self._saved = time.monotonic()

    def _whole(self, name: str) -> bytes | None:
        content = self.location.get(name) if self.location else None
        if content is None:
            return None
        digest = hashlib.sha256(content).hexdigest()
        return content if name == f"shard-{self._first:012d}-{self._count(content)}-{digest}.f32" else None

    def _count(self, content: bytes) -> int:
        return len(content) // (4 * self.dimension)
