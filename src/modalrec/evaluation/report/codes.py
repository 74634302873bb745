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
from modalrec.evaluation.report.tiles import Tile, tiles_of, titles_of

# N items, M of them on the map, L levels.

MAP = "map.json"
SIDE, EDGE = 420, 10
"""Of the map, and what stays free around its items."""
SHOWN = 16
"""Codes of a group that get a strip of their own."""
SPOTS, SPOT, SPOT_CODES = 100, 108, 8
"""Items of the map that show themselves, the height of their pictures, and how many codes fit below one."""
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
class Spot:
    """An item of the map that shows itself: where, in percent from the left and from above, and its codes."""

    left: float
    top: float
    tile: Tile
    codes: str


@dataclass(frozen=True)
class Map:
    """Items in two dimensions: all as dots that say their title, some with their picture."""

    dots: Markup
    spots: list[Spot]
    note: str


@dataclass(frozen=True)
class Codes:
    """All levels, items, what each step leaves, the quantizer's other errors, and the map where there is one."""

    title: str
    levels: list[Level]
    items: int
    distinct: bool
    steps: list[Step]
    statistics: list[tuple[str, str]]
    map: Map | None


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
        _map(folder / MAP, codes_NL, folders["dataset"]),
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


def _map(path: Path, codes_NL: NDArray[np.int32], dataset: Path) -> Map | None:
    """Items along two components, in the hue of their first code; None where the maker of the codes drew none.

    All say their title under the pointer; some, in even steps through the catalogue, show their picture, also where
    they are tapped or reached by the keyboard.
    """
    if not path.is_file():
        return None
    written = json.loads(path.read_bytes())
    rows_M, places_M2 = np.array(written["rows"], np.int64), np.array(written["places"], float).reshape(-1, 2)
    low_2, high_2 = places_M2.min(0), places_M2.max(0)
    places_M2 = (places_M2 - (low_2 + high_2) / 2) / max(float((high_2 - low_2).max()) / 2, 1e-30)
    across_M2 = SIDE / 2 + places_M2 * np.array([1, -1]) * (SIDE / 2 - EDGE)
    chosen = np.unique(np.linspace(0, len(rows_M) - 1, min(SPOTS, len(rows_M))).astype(int))
    tiles = tiles_of(dataset, sorted(rows_M[chosen].tolist()), SPOT)
    spots = [
        Spot(left, top, tiles[row], _written(codes_NL[row]))
        for (left, top), row in zip((100 / SIDE * across_M2[chosen]).round(2), rows_M[chosen].tolist(), strict=True)
    ]
    shares = " and ".join(f"{100 * share:.0f} %" for share in written["variance"])
    note = (
        f"{len(rows_M):,} items along the two leading principal components of their vectors ({shares} of the variance)"
    )
    note += f"; point at one, or tap it: the {len(chosen)} ringed ones show their picture and codes"
    return Map(_dots(across_M2, rows_M, codes_NL[rows_M, 0], dataset), spots, note)


def _dots(
    across_M2: NDArray[np.float64], rows_M: NDArray[np.int64], first_M: NDArray[np.int32], dataset: Path
) -> Markup:
    """The items, code by code."""
    parts = [
        Markup('<svg class="dots" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(SIDE, SIDE, "Map of items")
    ]
    titles = titles_of(dataset, rows_M.tolist())
    for code in np.unique(first_M):
        parts.append(Markup('<g style="--hue: {}">').format(f"{code * GOLDEN_ANGLE % 360:.0f}"))
        for place in np.flatnonzero(first_M == code):
            x, y = across_M2[place]
            dot = Markup('<path d="M{:.1f} {:.1f}h0"><title>{}</title></path>')
            parts.append(dot.format(x, y, titles[place]))
        parts.append(Markup("</g>"))
    return Markup("").join([*parts, Markup("</svg>")])


def _written(codes_L: NDArray[np.int32]) -> str:
    return "-".join(map(str, codes_L.tolist())) if len(codes_L) <= SPOT_CODES else ""
