"""The codes in the report: how evenly each level uses its codes, what was lost, and a map of the items."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from modalrec.artifacts.codes import SEMANTIC_ID, CodeGroup, read_code_groups, read_codes
from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.codes import LevelUsage, colliding, level_usage, pooled_usage
from modalrec.evaluation.report.charts import bar_strip
from modalrec.evaluation.report.tiles import Tile, tiles_of

# N items, L levels.

MAP = "map.json"
SIDE, EDGE = 420, 10
SHOWN = 16
"""Codes of a group that get a strip of their own."""
SPOTS, SPOT = 40, 72
"""Items of the map that show themselves, and the side of their pictures."""
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

    title: str
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
    folder, manifest = folders["codes"], manifests["codes"]
    _, groups = read_code_groups(folder)
    if list(groups) == [SEMANTIC_ID]:
        _, codes_NL, sizes = read_codes(folder)
        title, steps = "Semantic IDs", _steps(codes_NL, manifest)
        names = [f"level {level + 1}" for level in range(len(sizes))]
        names[-1] += ", tells collisions apart"
        used = list(zip(names, level_usage(codes_NL, sizes), strict=True))
    else:
        codes_NL = np.concatenate([group.codes_NK for group in groups.values()], axis=1)
        title, steps = "Codes", [Step("nearest codes", colliding(codes_NL), _errors(manifest.statistics, ""))]
        used = [found for name, group in groups.items() for found in _group_usage(name, group)]
    svg, note = _map(folder / MAP, codes_NL, folders["dataset"])
    return Codes(
        title,
        [_level(name, usage) for name, usage in used],
        len(codes_NL),
        colliding(codes_NL) == 0,
        steps,
        [
            (name.replace("_", " "), f"{value:.4g}")
            for name, value in manifest.statistics.items()
            if _other(name, value)
        ],
        svg,
        note,
    )


def _level(name: str, usage: LevelUsage) -> Level:
    bits = float(np.log2(max(len(usage.counts), 1)))
    numbers = usage.used, usage.perplexity, usage.entropy, bits, usage.normalised_entropy
    return Level(name, len(usage.counts), *numbers, bar_strip(usage.counts, f"Items per code of {name}"))


def _group_usage(name: str, group: CodeGroup) -> list[tuple[str, LevelUsage]]:
    """Of each code of a group where they are few, of all together where they are many."""
    places = len(group.sizes)
    if places <= SHOWN:
        usages = level_usage(group.codes_NK, group.sizes)
        return [(f"{name}, code {place} of {places}", usage) for place, usage in enumerate(usages, 1)]
    return [(f"{name}, its {places} codes together", pooled_usage(group.codes_NK, max(group.sizes)))]


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


def _map(path: Path, codes_NL: NDArray[np.int32], dataset: Path) -> tuple[Markup | None, str]:
    """Items along two components, in the hue of their first code; None where the maker of the codes drew none.

    Some items, in even steps through the catalogue, show their picture and title under the pointer.
    """
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
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(SPOTS, len(rows))).astype(int))
    tiles = tiles_of(dataset, sorted(rows[chosen].tolist()), SPOT)
    parts += [_spot(float(x_N[place]), float(y_N[place]), tiles[int(rows[place])]) for place in chosen]
    shares = " and ".join(f"{100 * share:.0f} %" for share in written["variance"])
    note = f"{len(rows):,} items along the two leading principal components of their vectors ({shares} of the variance)"
    note += f"; the {len(chosen)} ringed ones show themselves under the pointer"
    return Markup("").join([*parts, Markup("</svg>")]), note


def _spot(x: float, y: float, tile: Tile) -> Markup:
    """A ring on the map that shows an item while the pointer is on it, on the side where there is room."""
    left = x > SIDE / 2
    down = min(max(y - SPOT / 2, 0), SIDE - SPOT)
    picture = Markup("")
    if tile.picture:
        picture = Markup('<image href="{}" x="{:.1f}" y="{:.1f}" width="{}" height="{}"/>').format(
            tile.picture, x - SPOT - 6 if left else x + 8, down, SPOT, SPOT
        )
    words = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x - 8 if left else x + 8,
        min(down + SPOT + 12, SIDE - 4) if picture else y + 4,
        "end" if left else "start",
        tile.title,
    )
    return Markup('<g class="spot"><circle cx="{:.1f}" cy="{:.1f}" r="5"/>{}{}</g>').format(x, y, picture, words)
