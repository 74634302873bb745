"""Processes by their numbers, which are used again: one is told from another by its start, or what it writes to."""

import contextlib
import os
from pathlib import Path


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None where it is gone, or only waits to be collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # While other threads are ending, the process looks like a zombie and still holds its ports and files.
        gone = fields[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return None
    return None if gone else fields[19]


def writers(path: Path) -> list[int]:
    """The processes whose standard output is a file, which a child has from its parent."""
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):  # it is gone, or somebody else's
            found += [int(place.parts[2])] if place.samefile(path) else []
    return found
