"""The semantic IDs in the report: how evenly each level uses its codes, what was lost, and a map of the items."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.codes import colliding, level_usage
from modalrec.evaluation.report.charts import bar_strip

# N items, L levels.

MAP = "map.json"
SIDE, EDGE = 420, 10
GOLDEN_ANGLE = 137.508
"""Degrees between the hues of neighbouring codes: the first ones, and any few in a row, are far apart."""
ERRORS = ("relative_reconstruction_error", "held_out_relative_reconstruction_error")


@dataclass(frozen=True)
class Level:
    """One level of the codes."""

    name: str
    size: int
    used: int
    perplexity: float
    entropy: float
    bits: float
    normalised: float
    strip: Markup


@dataclass(frozen=True)
class Step:
    """Codes on their way to semantic IDs: items minus distinct ones, and the variance that they leave."""

    name: str
    collisions: int
    errors: list[str]


@dataclass(frozen=True)
class Codes:
    """All levels, items, what each step leaves, the quantizer's other errors, and the map where there is one."""

    levels: list[Level]
    items: int
    distinct: bool
    steps: list[Step]
    statistics: list[tuple[str, str]]
    map: Markup | None
    map_note: str


def code_section(folders: dict[str, Path], manifests: dict[str, Manifest]) -> Codes | None:
    """Reads `codes.parquet`; None where the model has no codes."""
    if "codes" not in folders:
        return None
    _, codes_NL, sizes = read_codes(folders["codes"])
    manifest = manifests["codes"]
    last = codes_NL.shape[1] - 1
    levels = []
    for level, usage in enumerate(level_usage(codes_NL, sizes)):
        name = f"level {level + 1}" if level < last else f"level {level + 1}, tells collisions apart"
        strip = bar_strip(usage.counts, f"Items per code of {name}")
        bits = float(np.log2(max(len(usage.counts), 1)))
        numbers = usage.used, usage.perplexity, usage.entropy, bits, usage.normalised_entropy
        levels.append(Level(name, len(usage.counts), *numbers, strip))
    svg, note = _map(folders["codes"] / MAP, codes_NL)
    return Codes(
        levels,
        len(codes_NL),
        colliding(codes_NL) == 0,
        _steps(codes_NL, manifest),
        [
            (name.replace("_", " "), f"{value:.4g}")
            for name, value in manifest.statistics.items()
            if _other(name, value)
        ],
        svg,
        note,
    )


def _steps(codes_NL: NDArray[np.int32], manifest: Manifest) -> list[Step]:
    """What is left of collisions and variance by the nearest codes, after the last level, and with the position."""
    statistics = manifest.statistics
    way = manifest.config.get("last_level", "nearest")
    before = _errors(statistics, "nearest_") if way != "nearest" else _errors(statistics, "")
    steps = [Step("nearest codes", int(statistics.get("nearest_collisions", colliding(codes_NL[:, :-1]))), before)]
    if way != "nearest":
        steps.append(Step(f"last level {way}", colliding(codes_NL[:, :-1]), _errors(statistics, "")))
    return [*steps, Step("with the position", colliding(codes_NL), _errors(statistics, ""))]


def _errors(statistics: dict[str, Any], prefix: str) -> list[str]:
    found = [statistics.get(prefix + name) for name in ERRORS]
    return [f"{value:.4f}" if isinstance(value, int | float) else "" for value in found]


def _other(name: str, value: Any) -> bool:
    """Errors of single towers; those of all stand in the steps."""
    return isinstance(value, int | float) and "error" in name and name.removeprefix("nearest_") not in ERRORS


def _map(path: Path, codes_NL: NDArray[np.int32]) -> tuple[Markup | None, str]:
    """Items along two components, in the hue of their first code; None where the maker of the codes drew none."""
    if not path.is_file():
        return None, ""
    written = json.loads(path.read_bytes())
    rows, places_N2 = np.array(written["rows"], np.int64), np.array(written["places"], float).reshape(-1, 2)
    first_N = codes_NL[rows, 0]
    x_N, y_N = (SIDE / 2 + sign * places_N2[:, axis] * (SIDE / 2 - EDGE) for axis, sign in ((0, 1), (1, -1)))
    parts = [
        Markup('<svg class="map" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(SIDE, SIDE, "Map of items")
    ]
    for code in np.unique(first_N):
        dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(x_N[first_N == code], y_N[first_N == code], strict=True))
        hue = f"{code * GOLDEN_ANGLE % 360:.0f}"
        parts.append(
            Markup('<path style="--hue: {}" d="{}"><title>first code {}</title></path>').format(hue, dots, code)
        )
    shares = " and ".join(f"{100 * share:.0f} %" for share in written["variance"])
    note = f"{len(rows):,} items along the two leading principal components of their vectors ({shares} of the variance)"
    return Markup("").join([*parts, Markup("</svg>")]), note
