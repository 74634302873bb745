"""Rendering manifests without a cluster, with the kubectl that `make setup` installs."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
KUBECTL = Path(sys.executable).parent / "kubectl"


def render(folder: Path) -> list[dict[str, Any]]:
    """The objects of a kustomization."""
    done = subprocess.run([str(KUBECTL), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


def with_components(components: Iterable[str], folder: Path) -> list[dict[str, Any]]:
    """The objects of the base with components, as an overlay of one's own would have them."""
    copied = folder / "manifests"
    if not copied.exists():
        subprocess.run(["cp", "-r", str(MANIFESTS), str(copied)], check=True)
    overlay = copied / "overlays" / "-".join(components)
    overlay.mkdir()
    wanted = {"resources": ["../../base"], "components": [f"../../components/{name}" for name in components]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    return render(overlay)
