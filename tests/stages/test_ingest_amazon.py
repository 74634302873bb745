"""Releases of the Amazon reviews through `ingest`, with the presets of the published settings."""

import functools
from collections import defaultdict
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import load_preset, resolve
from modalrec.errors import DataError
from modalrec.run import Run
from modalrec.stages._ingest_read import take_items
from modalrec.stages.ingest import Config, ingest
from modalrec.testing.faults import running
from tests.raw import picture, real_data, write_reviews, write_tables

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


def test_items_are_taken_from_the_batch_that_has_them() -> None:
    table = pa.concat_tables([pa.table({"item_id": [str(10 * part + row) for row in range(3)]}) for part in range(4)])
    taken = take_items(table, np.array([0, 2, 3, 9, 11]))
    assert taken["item_id"].to_pylist() == ["0", "2", "10", "30", "32"]
    assert take_items(table, np.array([], np.int64)).num_rows == 0


def test_pictures_are_fetched_when_that_is_asked_for(tmp_path: Path) -> None:
    """All but one: an address that answers with a page, and what shops send for pictures that are gone."""
    (tmp_path / "web").mkdir()
    for item in range(6):
        (tmp_path / "web" / f"B{item}.jpg").write_bytes(picture(colour=(40 * item, 0, 0)))
    (tmp_path / "web" / "B1.jpg").write_bytes(b"<html>sorry</html>")
    (tmp_path / "web" / "B2.jpg").write_bytes(picture((1, 1), kind="GIF", mode="P", colour=(0,)))
    (tmp_path / "web" / "B3.jpg").unlink()
    handler = functools.partial(QuietFiles, directory=str(tmp_path / "web"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with running(server):
        raw = write_reviews(tmp_path / "raw", 2018, url=f"http://127.0.0.1:{server.server_address[1]}")
        (raw / "images").mkdir()
        (raw / "images" / "B5.png").write_bytes(picture(kind="PNG"))
        settings: dict[str, Any] = {"splits": ["leave_one_out"]}
        run(raw, tmp_path / "none", settings)
        assert states(tmp_path / "none") == ["none"] * 5 + ["given"]
        assert not (tmp_path / "none.pictures").exists()
        allowed = {"allow_private": True, "pause": 0}
        images: dict[str, Any] = {"download": True, "downloads": allowed, "max_bad_share": 0.5}
        run(raw, tmp_path / "dataset", {**settings, "images": images})
    assert states(tmp_path / "dataset") == ["given", "none", "none", "none", "given", "given"]
    bad = read_manifest(tmp_path / "dataset", "dataset").statistics["bad_images"]
    assert bad["reasons"] == {"HTTP 404": 1, "a single pixel": 1, "no picture of a known format": 1}
    # The server is gone, and what came from it is not.
    again = tmp_path / "dataset.pictures"
    run(raw, tmp_path / "again", {**settings, "images": {**images, "downloads": {**allowed, "cache": str(again)}}})
    assert states(tmp_path / "again") == states(tmp_path / "dataset")
    with pytest.raises(DataError, match=r"(?s)item B1, http://.*3 of 6 pictures are bad, more than max_bad_share=0.4"):
        run(raw, tmp_path / "failed", {**settings, "images": {**images, "max_bad_share": 0.4, "downloads": {
            **allowed, "cache": str(again)}}})  # fmt: skip
    refused = {"download": True, "max_bad_share": 1.0}
    run(raw, tmp_path / "refused", {**settings, "images": refused})
    reasons = read_manifest(tmp_path / "refused", "dataset").statistics["bad_images"]["reasons"]
    assert reasons == {"not a public host": 5}


def test_a_column_of_addresses_is_a_list_of_pictures_to_fetch(tmp_path: Path) -> None:
    items = "item_id,title,image\n" + "".join(f"f{n},Film {n},http://127.0.0.1:1/f{n}.jpg\n" for n in range(6))
    write_tables(tmp_path / "raw", items)
    settings: dict[str, Any] = {"min_user_events": 1, "min_item_events": 1}
    run(tmp_path / "raw", tmp_path / "dataset", settings)
    assert states(tmp_path / "dataset") == ["none"] * 6
    run(tmp_path / "raw", tmp_path / "asked", {**settings, "images": {"download": True, "max_bad_share": 1.0}})
    assert read_manifest(tmp_path / "asked", "dataset").statistics["bad_images"]["reasons"] == {"not a public host": 6}


def states(dataset: Path) -> list[str]:
    return pq.read_table(dataset / "items.parquet")["image"].to_pylist()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass
