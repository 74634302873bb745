"""Several datasets read as one: nothing of one part touches another, and each is what it is alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from modalrec.artifacts import read_manifest
from modalrec.config import dump, resolve
from modalrec.data.sources.amazon import Amazon
from modalrec.data.sources.several import Several
from modalrec.errors import ConfigError, DataError
from modalrec.stages.ingest import Config
from tests.raw import picture, write_amazon, write_atomic, write_reviews, write_sessions, write_tables, write_zip
from tests.stages.trained import run_stage

ALL = {"min_user_events": 3, "min_item_events": 1}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Films with times, products without, and shuffled tables with times: one user's rows go backwards."""
    write_atomic(tmp_path / "raw" / "films")
    write_amazon(tmp_path / "raw" / "tools")
    rows = [f"u{user},f{5 - step},{1000 - step},3" for user in range(4) for step in range(5)]
    write_tables(tmp_path / "raw" / "shop", interactions="\n".join(["user_id,item_id,timestamp,rating", *rows]) + "\n")
    return tmp_path / "raw"


def ingest(raw: Path, dataset: Path, **settings: Any) -> Path:
    run_stage("ingest", ALL | settings, source=raw, dataset=dataset)
    return dataset


def rows(dataset: Path, prefix: str = "") -> list[tuple[Any, ...]]:
    """(user, item, position, part of leave-one-out) of a dataset or of one part, ids without the part's name."""
    items = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    users = pq.read_table(dataset / "users.parquet")["user_id"].to_pylist()
    columns = pq.read_table(dataset / "interactions.parquet").to_pydict()
    found = zip(columns["user"], columns["item"], columns["position"], columns["split_leave_one_out"], strict=True)
    named = [(users[user], items[item], place, part) for user, item, place, part in found]
    return sorted(
        (user.removeprefix(prefix), item.removeprefix(prefix), place, part)
        for user, item, place, part in named
        if user.startswith(prefix)
    )


def test_the_whole_split_leave_one_out_is_that_of_each_part(raw: Path, tmp_path: Path) -> None:
    """Also where only some parts have times: their events are in the order of these, not of the file."""
    whole = ingest(raw, tmp_path / "whole")
    assert read_manifest(whole, "dataset").statistics["splits"] == ["leave_one_out"]
    for part in ("films", "tools", "shop"):
        alone = ingest(raw / part, tmp_path / part, splits=["leave_one_out"])
        assert rows(whole, f"{part}/") == rows(alone) != []
    backwards = [item for user, item, _, _ in rows(whole, "shop/") if user == "u0"]
    assert sorted(backwards) == ["f1", "f2", "f3", "f4", "f5"]
    last = [item for user, item, _, part in rows(whole, "shop/") if user == "u0" and part == 2]
    assert last == ["f5"]
    assert len(rows(whole)) == sum(len(rows(whole, f"{part}/")) for part in ("films", "tools", "shop"))


def test_only_keeps_ids_and_brings_back_what_the_part_has(raw: Path, tmp_path: Path) -> None:
    whole = ingest(raw, tmp_path / "whole")
    films = ingest(raw, tmp_path / "films", source={"name": "several", "only": ["films"]})
    assert rows(films) == [row for row in rows(whole) if row[0].startswith("films/")]
    manifest = read_manifest(films, "dataset")
    assert manifest.statistics["splits"] == ["temporal", "leave_one_out"]
    assert set(manifest.statistics["source_files"]) == {"films/small.item", "films/small.inter"}
    ratings = pq.read_table(films / "interactions.parquet")["rating"]
    assert ratings.null_count == 0


def test_files_of_one_name_in_two_parts_are_both_recorded(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_amazon(tmp_path / "raw" / part)
    statistics = read_manifest(ingest(tmp_path / "raw", tmp_path / "data"), "dataset").statistics
    assert len(statistics["source_files"]) == 4
    assert statistics["source"]["a/rows"] == statistics["source"]["b/rows"] == 40
    assert (statistics["items"], statistics["users"]) == (12, 16)


def test_times_of_different_units_are_brought_to_one(tmp_path: Path) -> None:
    """The release of 2023 counts milliseconds, that of 2018 seconds."""
    write_reviews(tmp_path / "raw" / "new", 2023)
    write_reviews(tmp_path / "raw" / "old", 2018)
    source = Several(Several.Config(), tmp_path / "raw")
    assert (source.per_second, source.has_timestamps, source.has_ratings) == (1000, True, True)
    table = pa.Table.from_batches(source.interactions())
    times = {part: [] for part in ("new", "old")}
    for user, time in zip(table["user_id"].to_pylist(), table["timestamp"].to_pylist(), strict=True):
        times[user.partition("/")[0]].append(time)
    assert times["new"] == [time + 7 for time in times["old"]]


def test_pictures_come_from_the_part_of_their_item(tmp_path: Path) -> None:
    for part, colour in (("a", (250, 0, 0)), ("b", (0, 0, 250))):
        folder = tmp_path / "raw" / part
        write_tables(folder, items="item_id,title,image\n" + "".join(f"f{film},F,p.png\n" for film in range(6)))
        write_zip(folder / "images.zip", {"p.png": picture(colour=colour, kind="PNG")})
    dataset = ingest(tmp_path / "raw", tmp_path / "data")
    stored = pq.read_table(dataset / "images").to_pylist()
    assert len(stored) == 12
    for place, row in enumerate(stored):
        content = next(value for value in row.values() if isinstance(value, bytes))
        red, _, blue = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).mean((0, 1))
        assert (red > blue) == (place < 6)


def test_what_is_wrong_is_said_at_once(raw: Path) -> None:
    (raw / "notes").mkdir()
    (raw / "notes" / "todo.txt").write_text("x")
    (raw / "empty").mkdir()
    (raw / ".cache").mkdir()
    with pytest.raises(DataError, match=r"(?s)empty/: .*no known source; it holds nothing.*notes/: .*todo.txt.*Say in"):
        Several(Several.Config(), raw)
    assert Several.detect(raw)
    chosen = Several(Several.Config(only=("films",)), raw)
    assert {item["item_id"][:6] for batch in chosen.items() for item in batch.to_pylist()} == {"films/"}


def test_a_folder_without_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder for each of several datasets; put every dataset in one"):
        Several(Several.Config(), tmp_path)


def test_names_of_folders_that_are_not_there(raw: Path) -> None:
    with pytest.raises(ConfigError, match=r"no folder 'film'; it has films, shop, tools; change source.only"):
        Several(Several.Config(only=("film",)), raw)


def test_a_part_that_is_split_already_is_refused(tmp_path: Path) -> None:
    write_tables(tmp_path / "raw" / "a")
    for name in ("train.txt", "test.txt"):
        write_sessions(tmp_path / "raw" / "b", name=name)
    settings = {"name": "several", "parts": {"b": {"name": "sessions", "train": "train.txt", "test": "test.txt"}}}
    with pytest.raises(DataError, match="b/: is split into train, test already; ingest it alone"):
        Several(resolve(Several.Config, settings), tmp_path / "raw")


def test_sessions_stay_sessions(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_sessions(tmp_path / "raw" / part)
    source = Several(Several.Config(), tmp_path / "raw")
    assert source.suggested["splits"] == ("sessions",)
    write_tables(tmp_path / "raw" / "c")
    assert Several(Several.Config(), tmp_path / "raw").suggested == {}


def test_settings_of_parts(raw: Path) -> None:
    source = resolve(Config, {"source": {"name": "several", "parts": {"tools": {"name": "amazon"}}}}).source
    assert source.parts["tools"] == dump(Amazon.Config())
    with pytest.raises(ConfigError, match=r"tools\.feilds: unknown field, did you mean fields"):
        resolve(Several.Config, {"parts": {"tools": {"name": "amazon", "feilds": []}}})
    with pytest.raises(
        ConfigError, match=r"tools\.name: 'several' is no source of a part; known: amazon, atomic, microlens"
    ):
        resolve(Several.Config, {"parts": {"tools": {"name": "several"}}})
