"""The pipeline as a figure, drawn from the lineage: stages, what each used and made, and how long it took."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from modalrec.artifacts.manifest import Ancestor, Manifest
from modalrec.evaluation.report.text import clean

UNITS = {
    "dimension": "dimensions",
    "present": "present",
    "interactions": "events",
    "items": "items",
    "collisions": "collisions",
    "parameters": "parameters",
}
"""Statistics that the boxes show, and what they count."""
BOX, TALL, GAP, ROW, RAIL, MARGIN = 138, 88, 28, 18, 16, 8
SMALLEST, LARGEST = 0.85, 1.2
"""Of the size that its text is drawn for."""


@dataclass
class Node:
    """A stage, with all artifacts that it made for this evaluation."""

    stage: str
    artifacts: list[Ancestor] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    column: int = 0
    x: float = 0.0
    y: float = 0.0


def pipeline_figure(manifests: Mapping[str, Manifest]) -> Markup:
    """An SVG of the stages from left to right; edges that pass others run below them and carry their names."""
    nodes = _nodes(manifests)
    columns: dict[int, list[Node]] = defaultdict(list)
    for node in nodes.values():
        columns[node.column].append(node)
    middle = max(len(column) for column in columns.values()) * (TALL + ROW) / 2
    for number, column in columns.items():
        for place, node in enumerate(column):
            node.x = MARGIN + number * (BOX + GAP)
            node.y = MARGIN + middle + (place - len(column) / 2) * (TALL + ROW) + ROW / 2
    bottom = MARGIN + 2 * middle
    parts, rails = [], 0
    for source in nodes.values():
        targets = [node for node in nodes.values() if source.stage in node.sources]
        near = [node for node in targets if node.column == source.column + 1]
        far = [node for node in targets if node.column > source.column + 1]
        parts += [_curve(source, node) for node in near]
        if far:
            rails += 1
            parts.append(_rail(source, far, bottom + rails * RAIL, rails))
    width = 2 * MARGIN + len(columns) * (BOX + GAP) - GAP
    head = Markup(
        '<svg class="pipeline" viewBox="0 0 {0} {1:.0f}" style="min-width: {2:.0f}px; max-width: {3:.0f}px" '
        'role="img" aria-label="The stages of this run">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8Z"/></marker></defs>'
    ).format(width, bottom + (rails + 1) * RAIL, SMALLEST * width, LARGEST * width)
    return Markup("").join([head, *parts, *map(_box, nodes.values()), Markup("</svg>")])


def _nodes(manifests: Mapping[str, Manifest]) -> dict[str, Node]:
    artifacts = {manifest.digest: manifest.ancestor() for manifest in manifests.values()}
    for manifest in manifests.values():
        artifacts = manifest.lineage | artifacts
    nodes: dict[str, Node] = {}
    for ancestor in artifacts.values():
        node = nodes.setdefault(ancestor.stage, Node(ancestor.stage))
        node.artifacts.append(ancestor)
        for edge, digest in ancestor.inputs.items():
            if digest in artifacts and artifacts[digest].stage != node.stage:
                node.sources.setdefault(artifacts[digest].stage, edge)
    nodes["evaluate"] = Node("evaluate")
    for edge, manifest in manifests.items():
        nodes["evaluate"].sources.setdefault(manifest.stage, edge)
    # Inputs stand left of what is made from them; as many rounds as stages reach the longest path.
    for _ in nodes:
        for node in nodes.values():
            node.column = max((nodes[source].column + 1 for source in node.sources), default=0)
    return nodes


def _curve(source: Node, target: Node) -> Markup:
    x1, y1, x2, y2 = source.x + BOX, source.y + TALL / 2, target.x - 1, target.y + TALL / 2
    return _path(f"M{x1:.0f} {y1:.0f}C{x1 + GAP / 2:.0f} {y1:.0f} {x2 - GAP / 2:.0f} {y2:.0f} {x2:.0f} {y2:.0f}")


def _rail(source: Node, targets: list[Node], y: float, number: int) -> Markup:
    start = source.x + BOX / 2 + 10 * (number - 1)
    parts = []
    for target in targets:
        end = target.x + BOX / 2 - 24 + 14 * number
        parts.append(_path(f"M{start:.0f} {source.y + TALL:.0f}V{y:.0f}H{end:.0f}V{target.y + TALL + 1:.0f}"))
    name = targets[0].sources[source.stage]
    parts.append(Markup('<text class="edge-name" x="{:.0f}" y="{:.0f}">{}</text>').format(start + 6, y - 4, name))
    return Markup("").join(parts)


def _path(steps: str) -> Markup:
    return Markup('<path class="edge" marker-end="url(#tip)" d="{}"/>').format(steps)


def _box(node: Node) -> Markup:
    lines = _facts(node)
    rows = [
        Markup('<text class="fact" x="{:.0f}" y="{:.0f}">{}</text>').format(node.x + 10, node.y + 38 + 15 * i, line)
        for i, line in enumerate(lines[:4])
    ]
    frame = Markup(
        '<g class="stage {}"><rect x="{:.0f}" y="{:.0f}" width="{}" height="{}" rx="9"/>'
        '<text class="name" x="{:.0f}" y="{:.0f}">{}</text>'
    ).format(node.stage, node.x, node.y, BOX, TALL, node.x + 10, node.y + 21, node.stage)
    return Markup("").join([frame, *rows, Markup("</g>")])


def _facts(node: Node) -> list[str]:
    if not node.artifacts:
        return ["measures the model"]
    first = node.artifacts[0]
    many = f"{len(node.artifacts)} models" if len(node.artifacts) > 1 else ""
    seconds = sum(artifact.cost.get("seconds", 0.0) for artifact in node.artifacts)
    facts = [_plugin(first.config), *_counts(first.statistics), many, duration(seconds)]
    return [clean(fact, 20) for fact in facts if fact]


def _plugin(config: dict[str, Any]) -> str:
    if config.get("given"):
        return "given vectors"
    names = [value["name"] for value in config.values() if isinstance(value, dict) and "name" in value]
    return str(names[0] if names else config.get("name", "")).replace("_", " ")


def _counts(statistics: dict[str, Any]) -> list[str]:
    """At most two lines that tell what came out."""
    sizes = statistics.get("codebook_sizes", [])[:-1]
    levels = [f"{len(sizes)} levels of {max(sizes)}"] if sizes else []
    found = {name: statistics[name] for name in UNITS if isinstance(statistics.get(name), int | float)}
    return [*levels, *(f"{_short(number)} {UNITS[name]}" for name, number in found.items())][:2]


def _short(number: float) -> str:
    """Up to five digits in full, then thousands and millions."""
    if number < 100_000:
        return f"{int(number):,}"
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def duration(seconds: float) -> str:
    """Seconds for people: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
