"""The training curves: what `curves.json` of models and codes holds, one entry an epoch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.report.charts import Series, line_chart

STAGES = (
    ("Quantizer", (("codes", "quantizer"),)),
    ("Pre-training", (("pretrained", "pre-training"),)),
    ("Finetuning", (("model", "model"), ("scratch", "from scratch"), ("shuffled", "shuffled order"))),
    (
        "Without some fields",
        (
            ("without_popularity", "without popularity"),
            ("without_codes", "without codes"),
            ("without_content", "without content"),
        ),
    ),
)
CHARTS = 3
PREFERRED = ("loss", "ndcg_10", "recall_10", "auc", "user_auc", "held_out_explained_variance", "reconstruction")


@dataclass(frozen=True)
class Chart:
    """A chart and its caption; `names` label its lines where there is more than one."""

    caption: str
    svg: Markup
    names: list[str]


@dataclass(frozen=True)
class Curves:
    """The charts of one stage."""

    stage: str
    charts: list[Chart]


def curve_section(folders: dict[str, Path], manifests: dict[str, Manifest]) -> list[Curves]:
    """Charts of every stage whose artifact has curves, the kept epoch marked; stages without are left out."""
    section = []
    for stage, runs in STAGES:
        found = {edge: read_curves(folders[edge], name) for edge, name in runs if edge in folders}
        drawn = [curve for curves in found.values() for curve in curves.items()]
        if drawn:
            first = next(edge for edge, curves in found.items() if curves)
            # Quantizers of two towers keep an epoch each.
            kept = manifests[first].statistics.get("best_epoch") if len(found[first]) == 1 else None
            section.append(Curves(stage, [_chart(key, drawn, kept) for key in _keys(drawn[0][1])]))
    return section


def read_curves(folder: Path, name: str) -> dict[str, list[dict[str, float]]]:
    """The entries of `curves.json` under a name, or under those of towers that were trained apart; none without it."""
    path = folder / "curves.json"
    curves: dict[str, list[dict[str, float]]] = {}
    for entry in json.loads(path.read_bytes()) if path.is_file() else []:
        numbers = {key: float(value) for key, value in entry.items() if _is_number(value)}
        curves.setdefault(entry.get("tower", name), []).append(numbers)
    return curves


def _keys(entries: list[dict[str, float]]) -> list[str]:
    """What to draw: the loss, the validation metrics, then whatever else was noted."""
    known = [name for name in entries[-1] if name != "epoch"]
    preferred = [name for name in PREFERRED if name in known]
    return (preferred + [name for name in known if name not in preferred and "_1" not in name])[:CHARTS]


def _chart(key: str, runs: list[tuple[str, list[dict[str, float]]]], kept: float | None) -> Chart:
    series = []
    for name, entries in runs:
        points = [(entry.get("epoch", place + 1), entry[key]) for place, entry in enumerate(entries) if key in entry]
        if points:
            series.append(Series(name, [x for x, _ in points], [y for _, y in points]))
    validation = key.startswith(("recall", "ndcg", "mrr", "auc", "user_auc", "neg_"))
    caption = f"{key} on the validation part" if validation else key.replace("_", " ")
    svg = line_chart(series, f"{caption} by epoch", mark=kept)
    return Chart(caption, svg, [line.name for line in series] if len(series) > 1 else [])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
