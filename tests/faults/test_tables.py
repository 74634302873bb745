"""Bad input to the stage `ingest`: one clear error, and nothing written."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.errors import ConfigError, DataError, ModalrecError
from modalrec.run import Run
from modalrec.stages import ingest as stage
from modalrec.stages.ingest import Config, ingest
from tests.raw import picture, write_amazon, write_atomic, write_tables, write_zip

ALL = {"min_user_events": 1, "min_item_events": 1}


def run(source: Path, dataset: Path, /, **settings) -> dict[str, float]:
    return ingest(source, dataset, config=resolve(Config, ALL | settings), run=Run("ingest", quiet=True))


def refused(source: Path, folder: Path, match: str, error: type[ModalrecError] = DataError, **settings) -> str:
    """Runs the stage, checks that it is refused and leaves nothing, and returns the message."""
    target = folder / "out" / "dataset"
    with pytest.raises(error, match=match) as caught:
        run(source, target, **settings)
    assert not target.parent.exists() or list(target.parent.iterdir()) == []
    return str(caught.value)


@pytest.mark.fault("tables")
def test_a_missing_folder(tmp_path):
    refused(tmp_path / "gone", tmp_path, "is no folder; give the folder of the raw data")


@pytest.mark.fault("tables")
def test_a_folder_of_no_known_source(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "photo.heic").write_bytes(b"x")
    message = refused(tmp_path / "raw", tmp_path, r"looks like no known source; it holds photo\.heic")
    for expected in ("amazon: NAME.inter.json", "movielens: ratings.csv", "tables: items and interactions"):
        assert expected in message


@pytest.mark.fault("tables")
def test_a_folder_of_two_sources(tmp_path):
    write_tables(write_atomic(tmp_path / "raw"))
    refused(tmp_path / "raw", tmp_path, "looks like movielens and tables; .*Set source.name")
    assert run(tmp_path / "raw", tmp_path / "dataset", source={"name": "tables"})["items"] == 6


@pytest.mark.fault("tables")
@pytest.mark.parametrize("name", ["items.csv", "interactions.csv"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"\xff\xfe\x00", b"item_id\n"])
def test_empty_and_binary_files(tmp_path, name, content):
    source = write_tables(tmp_path / "raw")
    (source / name).write_bytes(content)
    assert name in refused(source, tmp_path, "is empty|no header in UTF-8|no rows|no column")


@pytest.mark.fault("tables")
def test_all_bad_lines_of_a_file_at_once(tmp_path):
    lines = ["user_id,item_id,timestamp,rating", "u,f1,1,1", "u,f1", "u,f1,x,1", ",f1,2,2", "u,f2,3,good", "u,f3,4,4,4"]
    source = write_tables(tmp_path / "raw", interactions="\n".join(lines) + "\n")
    message = refused(source, tmp_path, "Mend these lines")
    for expected in (
        "line 3: 2 cells, the header has 4",
        "line 4, timestamp: 'x' is not a number",
        "line 5, user_id: is empty",
        "line 6, rating: 'good' is not a number",
        "line 7: 5 cells",
    ):
        assert expected in message


@pytest.mark.fault("tables")
def test_an_item_that_stands_twice(tmp_path):
    source = write_tables(tmp_path / "raw", items="item_id,title\na,x\nb,y\na,z\n")
    refused(source, tmp_path, r"items\.csv: row 3: item 'a' stands already in row 1. Keep one row an item")


@pytest.mark.fault("tables")
def test_too_many_rows_of_unknown_items(tmp_path):
    source = write_atomic(tmp_path / "raw", films=6)
    (source / "small.item").write_text("".join((source / "small.item").read_text().splitlines(keepends=True)[:4]))
    refused(source, tmp_path, r"21 of 40 rows name 3 items .*\(such as 'f\d'.*raise max_unknown_share")
    assert run(source, tmp_path / "dataset", max_unknown_share=0.6)["dropped_unknown_item"] == 21


@pytest.mark.fault("edges")
def test_users_with_one_event_stay_or_go_as_asked(tmp_path):
    rows = [("one", "f0", 1, 5), ("two", "f0", 1, 6), ("two", "f1", 1, 7), ("three", "f0", 1, 1)]
    rows += [("three", f"f{film}", 1, 10 + film) for film in range(1, 4)]
    source = write_atomic(tmp_path / "raw", rows)
    numbers = run(source, tmp_path / "all", splits=["leave_one_out"])
    assert (numbers["users"], numbers["leave_one_out_test_targets"]) == (3, 1)
    assert run(source, tmp_path / "some", splits=["leave_one_out"], min_user_events=2)["users"] == 2


@pytest.mark.fault("tables")
def test_no_event_left(tmp_path):
    message = refused(write_atomic(tmp_path / "raw"), tmp_path, "no interaction is left of 40 rows", min_user_events=9)
    assert "40 dropped: fewer than 9 events a user" in message
    assert "Lower min_user_events" in message


@pytest.mark.fault("tables")
def test_equal_times_have_no_temporal_split(tmp_path):
    source = write_atomic(tmp_path / "raw", [(f"u{user}", f"f{film}", 1, 5) for user in range(9) for film in range(6)])
    refused(source, tmp_path, r"temporal split: no train .*leave_one_out", ConfigError)


@pytest.mark.fault("edges")
def test_items_without_text_or_picture_stay(tmp_path):
    source = write_tables(tmp_path / "raw", items="item_id,title,text\n" + "".join(f"f{film},,\n" for film in range(6)))
    numbers = run(source, tmp_path / "dataset")
    assert (numbers["items"], numbers["texts"], numbers["images_none"]) == (6, 0, 6)
    drawn = run(source, tmp_path / "drawn", images={"missing": "draw"})
    assert (drawn["texts"], drawn["images_drawn"]) == (0, 6)


@pytest.mark.fault("archives")
@pytest.mark.parametrize("name", ["../evil.jpg", "/evil.jpg"])
def test_a_zip_that_escapes_its_folder(tmp_path, name):
    source = write_tables(tmp_path / "raw")
    write_zip(source / "images.zip", {"f0.jpg": picture(), name: picture()})
    assert repr(name) in refused(source, tmp_path, r"images\.zip: entry .*its name leaves the folder")
    assert not list(tmp_path.rglob("evil.jpg"))


@pytest.mark.fault("archives")
def test_a_zip_bomb_and_a_cut_zip(tmp_path):
    source = write_tables(tmp_path / "raw")
    write_zip(source / "images.zip", {"f0.png": bytes(100 << 20)})
    refused(source, tmp_path, "entry 'f0.png': unpacks from")
    write_zip(source / "images.zip", {"f0.jpg": picture()})
    (source / "images.zip").write_bytes((source / "images.zip").read_bytes()[:-30])
    refused(source, tmp_path, "is not a complete zip")


@pytest.mark.fault("images")
def test_bad_pictures_are_set_aside_by_reason(tmp_path):
    source = write_tables(tmp_path / "raw", items="item_id,image\nf0,\nf1,\nf2,\nf3,gone.jpg\nf4,\nf5,\n")
    jpeg = picture((64, 64))
    pictures = {
        "f0.jpg": jpeg,
        "f1.jpg": jpeg[: len(jpeg) // 2],
        "f2.png": picture((3000, 3000), kind="PNG"),
        "f4.gif": b"",
        "f5.jpg": b"<html>not found</html>",
    }
    write_zip(source / "images.zip", pictures)
    settings = {"images": {"max_pixels": 4_000_000, "max_bad_share": 0.9}}
    numbers = run(source, tmp_path / "dataset", **settings)
    assert (numbers["images_given"], numbers["images_none"], numbers["images_bad"]) == (1, 5, 5)
    bad = read_manifest(tmp_path / "dataset", "dataset").statistics["bad_images"]
    assert bad["reasons"] == {
        "damaged": 1,
        "empty file": 1,
        "no picture of a known format": 1,
        "no such file": 1,
        "too many pixels": 1,
    }
    assert "item f3, gone.jpg: no such file" in bad["examples"]
    message = refused(
        source, tmp_path, "5 of 6 pictures are bad, more than max_bad_share=0.05", images={"max_pixels": 10**6}
    )
    assert "item f2, f2.png: too many pixels" in message


@pytest.mark.fault("tables")
def test_cut_json(tmp_path):
    source = write_amazon(tmp_path / "raw")
    path = source / "Small.inter.json"
    path.write_bytes(path.read_bytes()[:-40])
    refused(source, tmp_path, r"Small\.inter\.json: line 1, column \d+")


@pytest.mark.fault("atomic")
def test_a_killed_process_leaves_no_dataset_and_the_next_run_makes_one(tmp_path):
    source = write_atomic(tmp_path / "raw", films=6)
    lines = [f"f{film}\tFilm {film}\t1990\tDrama" for film in range(6, 6000)]
    with (source / "small.item").open("a") as file:
        file.write("\n".join(lines) + "\n")
    target = tmp_path / "out" / "dataset"
    script = (
        "import sys; from pathlib import Path; from modalrec.run import Run\n"
        "from modalrec.stages.ingest import Config, ingest\n"
        "config = Config(keep_cold_items=True, min_user_events=1, min_item_events=1, images={'missing': 'draw'})\n"
        "ingest(Path(sys.argv[1]), Path(sys.argv[2]), config=config, run=Run('ingest'))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(source), str(target)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MODALREC_PROGRESS_SECONDS": "0.05"},
    )
    assert process.stderr is not None
    while "pictures" not in (line := process.stderr.readline()):
        assert line, "the stage ended before it came to the pictures"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    time.sleep(0.1)
    assert not target.exists()
    assert run(source, target)["users"] == 8
    read_manifest(target, "dataset")


PLACES = {"first": 0, "middle": 20, "last": 39}
BROKEN_ROWS: dict[str, tuple[bytes, str]] = {
    "short": (b"u1,f1,1", "3 cells, the header has 4"),
    "long": (b"u1,f1,1,1,1", "5 cells, the header has 4"),
    "no user": (b",f1,1,1", "user_id: is empty"),
    "no item": (b"u1,,1,1", "item_id: is empty"),
    "no time": (b"u1,f1,,1", "timestamp: is empty"),
    "text as time": (b"u1,f1,soon,1", "timestamp: 'soon' is not"),
    "NaN as time": (b"u1,f1,nan,1", "timestamp: 'nan' is not"),
    "text as rating": (b"u1,f1,1,good", "rating: 'good' is not a number"),
    "NaN as rating": (b"u1,f1,1,nan", "rating: 'nan' is not a number"),
    "infinite rating": (b"u1,f1,1,inf", "rating: 'inf' is not a number"),
    "not UTF-8": (b"u\xe9,f1,1,1", "is not UTF-8"),
    "an open quote": (b'"u1,f1,1,1', "quote not closed"),
}
BROKEN_ITEMS: dict[str, tuple[bytes, str]] = {
    "short": (b"x,y", "2 cells, the header has 5"),
    "long": (b"x,y,z,a,1,2", "6 cells, the header has 5"),
    "no id": (b",y,z,a,1990", "item_id: is empty"),
    "not UTF-8": (b"x,\xff,z,a,1990", "is not UTF-8"),
    "an open quote": (b'x,"y,z,a,1990', "quote not closed"),
}


def broken(folder: Path, name: str, line: bytes, place: int) -> int:
    """Puts a line into a table of the small folder, and gives its number."""
    path = write_tables(folder) / name
    lines = path.read_bytes().splitlines()
    place = min(place, len(lines) - 1)
    lines.insert(1 + place, line)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return 2 + place


@pytest.mark.fault("tables")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", BROKEN_ROWS)
def test_a_broken_row_is_named_with_its_line(tmp_path, kind, place):
    line, message = BROKEN_ROWS[kind]
    number = broken(tmp_path / "raw", "interactions.csv", line, PLACES[place])
    said = refused(tmp_path / "raw", tmp_path, "interactions.csv")
    assert message in said
    assert f"line {number}" in said


@pytest.mark.fault("tables")
@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", BROKEN_ITEMS)
def test_a_broken_item_is_named_with_its_line(tmp_path, kind, place):
    line, message = BROKEN_ITEMS[kind]
    number = broken(tmp_path / "raw", "items.csv", line, PLACES[place])
    said = refused(tmp_path / "raw", tmp_path, r"items\.csv")
    assert message in said
    assert f"line {number}" in said


@pytest.mark.fault("tables")
@pytest.mark.parametrize("name", ["items", "interactions"])
def test_a_parquet_table_whose_footer_lies_is_read_or_refused(tmp_path, name, record_property):
    """Counts, offsets, types, statistics and names at random; some names are no text, which no reader expects."""
    source = write_tables(tmp_path / "raw")
    content = pd.read_csv(source / f"{name}.csv").to_parquet()
    (source / f"{name}.csv").unlink()
    begin = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    columns = [found.start() for found in re.finditer(b"(user|item)_id", content) if found.start() > begin]
    cases = columns + list(range(begin, len(content) - 8, (len(content) - begin) // 40))
    for number, place in enumerate(cases):
        value = 0xFF if place in columns else random.Random(number).choice([0, 1, 0x7F, content[place] ^ 1])
        (source / f"{name}.parquet").write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
        out = tmp_path / "out" / str(number)
        try:
            run(source, out)
        except ModalrecError as error:
            assert f"{name}.parquet" in str(error) or "columns" in str(error)  # noqa: PT017
            assert not out.exists()
    record_property("cases", len(cases))


@pytest.mark.fault("tables")
@pytest.mark.parametrize("keep", [0, 4, 0.3, 0.7, -1])
@pytest.mark.parametrize("name", ["items", "interactions"])
def test_a_truncated_parquet_table_is_refused(tmp_path, name, keep):
    source = write_tables(tmp_path / "raw")
    content = pd.read_csv(source / f"{name}.csv").to_parquet()
    (source / f"{name}.csv").unlink()
    cut = int(keep * len(content)) if isinstance(keep, float) else keep
    (source / f"{name}.parquet").write_bytes(content[:cut])
    refused(source, tmp_path, rf"{name}\.parquet: is no complete parquet file")


@pytest.mark.fault("tables")
@pytest.mark.parametrize(
    "change", ["a BOM", "Windows lines", "time backwards", "a further column", "columns exchanged"]
)
def test_what_does_no_harm_gives_the_same_events(tmp_path, change):
    source = write_tables(tmp_path / "raw")
    run(source, tmp_path / "plain")
    path = source / "interactions.csv"
    head, *lines = path.read_text().splitlines()
    if change == "time backwards":
        lines.reverse()
    if change == "a further column":
        head, lines = f"{head},note", [f"{line},x" for line in lines]
    if change == "columns exchanged":
        head, lines = (",".join(head.split(",")[::-1]), [",".join(line.split(",")[::-1]) for line in lines])
    text = ("\r\n" if change == "Windows lines" else "\n").join([head, *lines, ""])
    path.write_text(text, encoding="utf-8-sig" if change == "a BOM" else "utf-8", newline="")
    run(source, tmp_path / "changed")
    found = [read_manifest(tmp_path / name, "dataset").files["interactions.parquet"] for name in ("plain", "changed")]
    users = [pd.read_parquet(tmp_path / name / "users.parquet")["user_id"].tolist() for name in ("plain", "changed")]
    assert sorted(users[0]) == sorted(users[1])
    assert found[0] == found[1] or change == "time backwards"
    events = [
        pd.read_parquet(tmp_path / name / "interactions.parquet").timestamp.tolist() for name in ("plain", "changed")
    ]
    assert sorted(events[0]) == sorted(events[1])


@pytest.mark.guard("tables")
def test_without_its_own_place_a_failed_stage_leaves_a_folder(tmp_path, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def at_once(folder, *_, **__):
        folder.mkdir(parents=True)
        yield stage_work(folder)

    def stage_work(folder):
        from modalrec.artifacts.manifest import Stage

        return Stage(folder)

    monkeypatch.setattr(stage, "write_artifact", at_once)
    broken(tmp_path / "raw", "interactions.csv", b"u1,f1,1", 39)
    with pytest.raises(AssertionError):
        refused(tmp_path / "raw", tmp_path, "interactions.csv")
