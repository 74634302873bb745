"""Releases of the Amazon reviews through `ingest`, with the presets of the published settings."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import load_preset, resolve
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import real_data, write_reviews

PRESETS = {
    "baby": 2014,
    "beauty": 2014,
    "musical_instruments": 2014,
    "pantry": 2018,
    "arts": 2018,
    "office": 2018,
    "scientific": 2023,
}


def run(source: Path, dataset: Path, settings: dict[str, Any]) -> dict[str, float]:
    return ingest(source, dataset, config=resolve(Config, settings), run=Run("ingest", quiet=True))


def histories(dataset: Path) -> dict[str, list[str]]:
    names = [pq.read_table(dataset / f"{kind}.parquet")[f"{kind[:-1]}_id"].to_pylist() for kind in ("users", "items")]
    found = defaultdict(list)
    for row in pq.read_table(dataset / "interactions.parquet").to_pylist():
        found[names[0][row["user"]]].append(names[1][row["item"]])
    return dict(found)


@pytest.mark.parametrize(("preset", "release"), PRESETS.items())
def test_presets_read_their_release(tmp_path: Path, preset: str, release: int) -> None:
    """Eight users of five of six items, one after the other; the last review of each is of an item they had before."""
    settings = load_preset(preset)["ingest"]
    rows = [
        (f"A{user}", f"B{(user + step) % 6}", 5, 1_400_000_000 + 60 * step) for user in range(12) for step in range(6)
    ]
    rows += [(f"A{user}", f"B{user % 6}", 1, 1_500_000_000) for user in range(12)]
    rows += [("A90", "B0", 5, 1_400_000_000), ("A91", "unknown", 5, 1_400_000_000)]
    run(write_reviews(tmp_path / "raw", release, rows), tmp_path / "dataset", settings)
    expected = {}
    for user in range(12):
        items = [f"B{(user + step) % 6}" for step in range(6)]
        expected[f"A{user}"] = items[1:] + items[:1] if settings["deduplicate"] == "last" else items
    assert histories(tmp_path / "dataset") == expected
    statistics = read_manifest(tmp_path / "dataset", "dataset").statistics
    assert statistics["dropped_unknown_item"] == 1
    assert statistics["dropped_repeated_items"] == 12
    assert set(statistics["splits"]) == {"leave_one_out", "temporal"}
    times = pq.read_table(tmp_path / "dataset" / "interactions.parquet")["timestamp"].to_pylist()
    assert times[0] == 1_400_000_000 + (60 if settings["deduplicate"] == "last" else 0), "seconds, whatever the release"


def test_the_preset_scientific_reads_the_published_sequences(tmp_path: Path) -> None:
    settings = load_preset("scientific")["ingest"]
    numbers = run(real_data("amazon_scientific"), tmp_path / "dataset", settings)
    assert (numbers["users"], numbers["items"], numbers["interactions"]) == (8317, 4344, 58_492)
    text = pq.read_table(tmp_path / "dataset" / "items.parquet")["text"][1].as_py()
    assert text.startswith("Stanley TRA708T Sharpshooter 1/2-Inch Leg Length Staples, Steel (1000 Count). Heavy-duty")


def test_nothing_is_left_beside_the_tables(tmp_path: Path) -> None:
    run(write_reviews(tmp_path / "raw", 2018), tmp_path / "dataset", {"splits": ["leave_one_out"]})
    names = {path.name for path in (tmp_path / "dataset").rglob("*")}
    assert names == {"manifest.json", "items.parquet", "users.parquet", "interactions.parquet"}
