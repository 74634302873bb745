"""The machine: disk, memory, the places that must be writable, the real data of the tests."""

import os
import shutil
import tempfile
from pathlib import Path

from modalrec.doctor.check import Check

GIB = 1 << 30
DATA = "MODALREC_DATA"


def check_machine() -> list[Check]:
    """Space, memory and places."""
    places = [check_writable("temporary files", Path(tempfile.gettempdir()), "TMPDIR")]
    places.append(check_writable("home", Path(os.path.expanduser("~")), "HOME"))
    return [_disk(), _memory(), *places, check_data()]


def check_writable(name: str, place: Path, variable: str) -> Check:
    """Whether files can be made in a folder; caches of weights and kernels go there."""
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free / GIB
            return Check(name, "ok", f"{place} takes files, {free:.1f} GiB free")
    except OSError as error:
        found = f"{place}: {error.strerror or error}"
        return Check(name, "missing", found, f"set {variable} to a folder that can be written to")


def check_data() -> Check:
    """The folder of real data, which only tests and benchmarks read."""
    place = os.environ.get(DATA)
    if not place:
        return Check("real data", "off", f"{DATA} is not set: tests and benchmarks that need real data are skipped")
    if not Path(place).is_dir():
        return Check("real data", "missing", f"{DATA}={place}: no such folder", f"correct {DATA}, or unset it")
    return Check("real data", "ok", place)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    if free < 5:
        return Check("disk", "missing", f"{free:.1f} GiB free here", "free some space: the demo needs about 5 GiB")
    return Check("disk", "ok", f"{free:.1f} GiB free here")


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if total < 6:
        return Check("memory", "missing", f"{total:.1f} GiB", "use a machine with 6 GiB or more, or --preset tiny")
    return Check("memory", "ok", f"{total:.1f} GiB, {os.cpu_count()} cores")
