"""Packages: Python's, those of each extra, torch, the kernels, the encoders with their weights, the embedded store."""

import importlib.metadata
import sys
from collections import defaultdict

from packaging.requirements import Requirement

from modalrec.doctor.check import Check
from modalrec.errors import ModalrecError

EXTRAS = {
    "pipelines": "whole recipes; single stages work without",
    "laptop": "whole recipes without a store of one's own",
    "serve": "`modalrec serve`",
    "mlflow": "runs that MLFLOW_TRACKING_URI wants in MLflow",
    "dev": "`make test` and `make lint`",
}
"""What each extra is for."""
SHOWN = 4


def check_packages() -> list[Check]:
    """Python, and the packages that modalrec and each of its extras ask for."""
    checks = [Check("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")]
    wanted = defaultdict(list)
    try:
        lines = importlib.metadata.requires("modalrec") or []
    except importlib.metadata.PackageNotFoundError:
        return [*checks, Check("packages", "missing", "modalrec itself is not installed", "pip install -e .")]
    for requirement in map(Requirement, lines):
        extra = next((name for name in EXTRAS if f'extra == "{name}"' in str(requirement.marker)), "")
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            wanted[extra].append(requirement)
    for extra, requirements in wanted.items():
        checks.append(_packages(extra, requirements))
    return checks


def _packages(extra: str, requirements: list[Requirement]) -> Check:
    name, wrong = f"extra {extra}" if extra else "packages", []
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    use = f"; for {EXTRAS[extra]}" if extra else ""
    if not wrong:
        return Check(name, "ok", f"{len(requirements)} packages{use}")
    more = f", and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    step = f"pip install 'modalrec[{extra}]'" if extra else "pip install modalrec"
    return Check(name, "off" if extra else "missing", ", ".join(wrong[:SHOWN]) + more + use, step)


def check_installed() -> list[Check]:
    """What must not only be there but work."""
    return [_torch(), _gpu(), _kernels(), _weed()]


def check_encoders() -> list[Check]:
    """Every encoder, its weights loaded where no choice of them is the user's."""
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


def _kernels() -> Check:
    from modalrec import compiled

    if compiled.AVAILABLE:
        return Check("kernels", "ok", f"compiled by numba {importlib.metadata.version('numba')}")
    return Check("kernels", "off", "numba is missing: gru4rec and ranking run in torch and numpy", "pip install numba")


def _weed() -> Check:
    from modalrec.artifacts.embedded import find_weed

    try:
        return Check("embedded store", "ok", find_weed())
    except ModalrecError as error:
        return Check("embedded store", "missing", "no SeaweedFS", str(error))
