"""TensorBoard's event file of an artifact: its curves by epoch, its settings, what it counted.

It lies in the artifact's folder, so that the run's name in TensorBoard is the folder's. Event files hold the time of
writing; they are no part of the artifact's identity.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from modalrec.artifacts.manifest import Manifest

CURVES = "curves.json"


def write_events(folder: Path, manifest: "Manifest") -> None:
    """Writes the events of an artifact that was trained or measured; of others there is nothing to see."""
    curves = read_curves(folder)
    if not curves and manifest.kind != "evaluation":
        return
    # Slow to import, and most stages write none.
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, numbers in curves:
            for name, value in numbers.items():
                writer.add_scalar(f"curves/{name}", value, step)
        last = curves[-1][0] if curves else 0
        for name, value in numbers_of(manifest.statistics).items():
            writer.add_scalar(f"statistics/{name}", value, last)
        settings = yaml.safe_dump(manifest.config, sort_keys=False, allow_unicode=True)
        writer.add_text("settings", "".join(f"    {line}\n" for line in settings.splitlines()), 0)


def read_curves(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """From each entry of `curves.json` its place, from 1, and its numbers; none where there is no such file."""
    path = folder / CURVES
    entries = json.loads(path.read_bytes()) if path.is_file() else []
    return [(place, numbers_of(entry, "epoch")) for place, entry in enumerate(entries, start=1)]


def numbers_of(values: Mapping[str, Any], *left_out: str) -> dict[str, float]:
    """The finite numbers among some values."""
    return {
        name: float(value)
        for name, value in values.items()
        if name not in left_out and isinstance(value, int | float) and math.isfinite(value)
    }
