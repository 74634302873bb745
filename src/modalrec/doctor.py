"""What `modalrec doctor` looks at: what a run needs, whether it is here, and how to get it."""

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modalrec.errors import ModalrecError

GIB = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: The thing.
        state: `ok`; `missing` for what a run on this machine needs; `off` for what only some runs need.
        found: What is there.
        next_step: How to get it, where it is not there.
    """

    name: str
    state: Literal["ok", "missing", "off"]
    found: str
    next_step: str = ""


def examine() -> list[Check]:
    """Looks at everything; takes a few seconds, since it loads the encoders' weights."""
    single: list[Callable[[], Check]] = [_python, _torch, _gpu, _kernels]
    last: list[Callable[[], Check]] = [_weed, _kfp, check_store, _disk, _memory]
    return [check() for check in single] + _encoders() + [check() for check in last]


def render(checks: list[Check]) -> str:
    """The checks as lines, each with its next step where there is one."""
    lines = []
    for check in checks:
        lines.append(f"{check.state:8}{check.name:22}{check.found}")
        if check.next_step:
            lines.append(f"{'':30}-> {check.next_step}")
    return "\n".join(lines)


def _kernels() -> Check:
    from modalrec import compiled

    if compiled.AVAILABLE:
        return Check("kernels", "ok", f"compiled by numba {importlib.metadata.version('numba')}")
    return Check("kernels", "off", "numba is missing: gru4rec and ranking run in torch and numpy", "pip install numba")


def _python() -> Check:
    return Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def _torch() -> Check:
    try:
        import torch
        import torchvision

        threads = f"{torch.get_num_threads()} threads"
        return Check("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}, {threads}")
    except (ImportError, RuntimeError, OSError) as error:
        return Check(
            "torch", "missing", str(error).partition("\n")[0], "pip install --force-reinstall torch torchvision"
        )


def _gpu() -> Check:
    try:
        import torch

        if torch.cuda.is_available():
            return Check("gpu", "ok", torch.cuda.get_device_name())
    except (ImportError, RuntimeError, OSError):
        pass  # said by the check of torch
    return Check("gpu", "off", "none usable; stages run on the CPU")


def _encoders() -> list[Check]:
    from modalrec import plugins

    checks = []
    for name, encoder in plugins.discover("encoders").items():
        if reason := encoder.unavailable(encoder.Config()):
            checks.append(Check(f"encoder {name}", "off", reason, "set it where runs start, if they use this encoder"))
            continue
        modalities = ", ".join(sorted(encoder.modalities))
        if "model" in encoder.Config.model_fields and "base_url" not in encoder.Config.model_fields:
            # Which weights is the user's choice, and may be gigabytes to load.
            found = f"{modalities}; `model` names weights on a hub, in a folder or in a bucket"
            checks.append(Check(f"encoder {name}", "off", found))
            continue
        try:
            dimension = encoder(encoder.Config(), "cpu", min(encoder.modalities), "float32").dimension
            found = f"{modalities}; vectors of {dimension}"
            checks.append(Check(f"encoder {name}", "ok", found))
        except ModalrecError as error:
            checks.append(Check(f"encoder {name}", "missing", "cannot be loaded", str(error)))
    return checks


def _weed() -> Check:
    from modalrec.artifacts.embedded import find_weed

    try:
        return Check("embedded store", "ok", find_weed())
    except ModalrecError as error:
        return Check("embedded store", "missing", "no SeaweedFS", str(error))


def _kfp() -> Check:
    if importlib.util.find_spec("kfp") is None:
        return Check("kfp", "missing", "not installed", "pip install 'modalrec[pipelines]'; single stages work without")
    version = importlib.metadata.version("kfp")
    if not version.startswith("2.17."):
        return Check("kfp", "missing", version, "pip install 'modalrec[pipelines]': local runs need 2.17")
    return Check("kfp", "ok", version)


def check_store() -> Check:
    """Whether the store that the AWS_* variables name answers."""
    from modalrec.artifacts.s3 import VARIABLES, Store

    unset = [name for name in VARIABLES if not os.environ.get(name)]
    if len(unset) == len(VARIABLES):
        return Check("s3 store", "off", "not configured; local runs start their own")
    try:
        store = Store.from_env(attempts=1)
        store.check()
        return Check("s3 store", "ok", store.endpoint)
    except ModalrecError as error:
        return Check("s3 store", "missing", "does not work", str(error))


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
