"""The data in the report: what came in, what was dropped and why."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modalrec.artifacts.manifest import Manifest
from modalrec.evaluation.report.text import clean


@dataclass(frozen=True)
class Counts:
    """A titled list of counts."""

    title: str
    rows: list[tuple[str, str]]


@dataclass(frozen=True)
class Data:
    """Reasons with the interactions they cost, and all other counts of the dataset."""

    dropped: list[tuple[str, str]]
    counts: list[Counts]


def data_section(dataset: Manifest) -> Data:
    """The statistics of a dataset: what `ingest` dropped, then plain numbers, then one list per nested summary."""
    statistics = dict(dataset.statistics)
    dropped = [(clean(step["why"], 200), _shown(step["interactions"])) for step in statistics.pop("summary", [])]
    plain = {name: value for name, value in statistics.items() if not isinstance(value, dict | list)}
    nested = {name: value for name, value in statistics.items() if isinstance(value, dict | list)}
    splits = {split: _take(plain, f"{split}_") for split in statistics.get("splits", [])}
    counts = [Counts("Counts", _rows(plain))] if plain else []
    counts += [Counts(f"Split {_label(split)}", _rows(facts)) for split, facts in splits.items() if facts]
    counts += [Counts(_label(name).capitalize(), rows) for name, value in nested.items() if (rows := _rows(value))]
    return Data(dropped, counts)


def _take(numbers: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Takes what begins with a prefix out of `numbers`; moments become dates."""
    taken = {name.removeprefix(prefix): numbers.pop(name) for name in list(numbers) if name.startswith(prefix)}
    return {name: date(value) if name.endswith("_cut") else value for name, value in taken.items()}


def date(seconds: float) -> str:
    """A moment in seconds since 1970, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _rows(value: Any, label: str = "") -> list[tuple[str, str]]:
    """Nested values as lines whose labels name the way to them."""
    if isinstance(value, dict):
        return [row for name, part in value.items() for row in _rows(part, f"{label}, {_label(name)}".lstrip(", "))]
    if isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        return [row for place, part in enumerate(value) for row in _rows(part, f"{label} {place + 1}".strip())]
    if isinstance(value, list):
        return [] if not value else [(label, clean(", ".join(map(str, value)), 200))]
    return [(label, _shown(value))]


def _label(name: object) -> str:
    return clean(str(name).replace("_", " "))


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else clean(str(value), 200)
