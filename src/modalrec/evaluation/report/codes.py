"""The semantic IDs in the report: how evenly each level uses its codes, and what was lost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.codes import colliding, level_usage
from modalrec.evaluation.report.charts import bar_strip


@dataclass(frozen=True)
class Level:
    """One level of the codes."""

    name: str
    size: int
    used: int
    perplexity: float
    entropy: float
    bits: float
    strip: Markup


@dataclass(frozen=True)
class Codes:
    """All levels, items, collisions before the last position resolves them, and the quantizer's own numbers."""

    levels: list[Level]
    items: int
    collisions: int
    distinct: bool
    statistics: list[tuple[str, str]]


def code_section(folders: dict[str, Path], manifests: dict[str, Manifest]) -> Codes | None:
    """Reads `codes.parquet`; None where the model has no codes."""
    if "codes" not in folders:
        return None
    _, codes_NL, sizes = read_codes(folders["codes"])
    statistics = manifests["codes"].statistics
    last = codes_NL.shape[1] - 1
    levels = []
    for level, usage in enumerate(level_usage(codes_NL, sizes)):
        name = f"level {level + 1}" if level < last else f"level {level + 1}, tells collisions apart"
        strip = bar_strip(usage.counts, f"Items per code of {name}")
        bits = float(np.log2(max(len(usage.counts), 1)))
        levels.append(Level(name, len(usage.counts), usage.used, usage.perplexity, usage.entropy, bits, strip))
    return Codes(
        levels,
        len(codes_NL),
        colliding(codes_NL[:, :-1]),
        colliding(codes_NL) == 0,
        [(name.replace("_", " "), _shown(value)) for name, value in statistics.items() if _is_error(name, value)],
    )


def _is_error(name: str, value: Any) -> bool:
    return isinstance(value, int | float) and any(word in name for word in ("reconstruction", "error", "variance"))


def _shown(value: float) -> str:
    return f"{value:.4g}"
