import gzip
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec import plugins
from modalrec.config import resolve
from modalrec.data import delimited
from modalrec.data.sources.sessions import Sessions
from modalrec.errors import ConfigError, DataError
from tests.raw import picture, real_data, write_amazon, write_atomic, write_sessions, write_tables, write_zip

ROWS = [(4, "b", 1_396_437_466.94), (4, "a", 1_396_437_467), (9, "b", 1_396_437_460.5)]
EVENTS = [("4", "b", 1_396_437_466_940), ("4", "a", 1_396_437_467_000), ("9", "b", 1_396_437_460_500)]


def open_source(folder: Path, **settings) -> Sessions:
    return Sessions(resolve(Sessions.Config, settings), folder)


def events(folder: Path, **settings) -> list[tuple]:
    rows = pa.Table.from_batches(open_source(folder, **settings).interactions()).to_pylist()
    return [(row["user_id"], row["item_id"], row["timestamp"]) for row in rows]


def items(folder: Path, **settings) -> list[str]:
    return pa.Table.from_batches(open_source(folder, **settings).items())["item_id"].to_pylist()


def text(folder: Path, name: str, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_the_authors_form_needs_no_settings(tmp_path):
    folder = write_sessions(tmp_path, ROWS, "clicks.txt")
    assert events(folder) == EVENTS
    assert items(folder) == ["b", "a"]
    source = open_source(folder)
    assert (source.per_second, source.parts, source.has_roles) == (1000, (), False)


def test_many_forms_of_one_file_read_alike(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["SessionId", "ItemId", "Time"])
    for name in ("tsv", "csv", "tsv.gz", "csv.gz", "parquet", "pickle"):
        (tmp_path / name).mkdir()
    plain = frame.to_csv(index=False)
    (tmp_path / "csv" / "c.csv").write_text(plain)
    (tmp_path / "csv.gz" / "c.csv.gz").write_bytes(gzip.compress(plain.encode()))
    (tmp_path / "tsv" / "c.tsv").write_text(plain.replace(",", "\t"))
    (tmp_path / "tsv.gz" / "c.txt.gz").write_bytes(gzip.compress(plain.replace(",", "\t").encode()))
    frame.to_parquet(tmp_path / "parquet" / "c.parquet")
    (tmp_path / "pickle" / "c.pickle").write_bytes(pickle.dumps(frame))
    for folder in sorted(tmp_path.iterdir()):
        assert events(folder, allow_pickle=folder.name == "pickle") == EVENTS, folder.name


@pytest.mark.fault("pickles")
def test_a_pickle_is_read_only_when_allowed(tmp_path):
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(pd.DataFrame(ROWS, columns=["SessionId", "ItemId", "Time"])))
    (tmp_path / "test.pkl").write_bytes((tmp_path / "train.pkl").read_bytes())
    with pytest.raises(ConfigError, match=r"train\.pkl: is a pickle, .*--allow-pickle .*write the frame as parquet"):
        open_source(tmp_path)
    assert len(events(tmp_path, allow_pickle=True)) == 6


def test_any_columns_delimiter_and_no_header(tmp_path):
    folder = text(tmp_path, "log.dat", "x;b;4;1396437466940\nx;a;4;1396437467000\nx;b;9;1396437460500\n")
    settings = {
        "events": "log.dat",
        "header": ["kind", "sku", "visit", "when"],
        "columns": {"session": "visit", "item": "sku", "time": "when"},
        "delimiter": ";",
        "time_format": "ms",
    }
    assert events(folder, **settings) == EVENTS
    assert [when for *_, when in events(folder, **settings, time_resolution="s")] == [
        1_396_437_466,
        1_396_437_467,
        1_396_437_460,
    ]


@pytest.mark.parametrize(
    ("form", "cells"),
    [
        ("s", ["1396437466.94", "1396437467"]),
        ("ms", ["1396437466940", "1396437467000"]),
        ("us", ["1396437466940000", "1396437467000000"]),
        ("ns", ["1396437466940000000", "1396437467000000000"]),
        ("iso", ["2014-04-02T11:17:46.940Z", "2014-04-02T13:17:47+02:00"]),
        ("iso", ["2014-04-02 11:17:46.940 UTC", "2014-04-02 11:17:47"]),
        ("%d/%m/%Y %H:%M:%S", ["02/04/2014 11:17:46", "02/04/2014 11:17:47"]),
    ],
)
def test_times_in_many_forms(tmp_path, form, cells):
    rows = "".join(f"1\tx\t{cell}\n" for cell in cells)
    folder = text(tmp_path, "a.tsv", f"SessionId\tItemId\tTime\n{rows}")
    first = 1_396_437_466_000 if "%" in form else 1_396_437_466_940
    assert [when for *_, when in events(folder, time_format=form)] == [first, 1_396_437_467_000]


def test_a_fraction_that_no_float_is_equal_to(tmp_path):
    assert 1.001 * 1000 < 1001
    assert events(write_sessions(tmp_path, [(1, "x", 1.001)])) == [("1", "x", 1001)]


def test_dates_alone_and_parquet_times(tmp_path):
    text(tmp_path / "dates", "a.csv", "SessionId,ItemId,Time\n1,x,2014-04-02\n")
    assert events(tmp_path / "dates", time_format="iso") == [("1", "x", 1_396_396_800_000)]
    (tmp_path / "parquet").mkdir()
    times = pa.array([datetime(2014, 4, 2, 11, 17, 46, 940_000, UTC)], pa.timestamp("us", "UTC"))
    table = pa.table({"SessionId": [1], "ItemId": [5], "Time": times})
    pq.write_table(table, tmp_path / "parquet" / "a.parquet")
    assert events(tmp_path / "parquet") == [("1", "5", 1_396_437_466_940)]


@pytest.mark.fault("tables")
@pytest.mark.parametrize(
    ("form", "cells", "message"),
    [
        ("iso", ["2014-04-02", "noon", "2014-13-01"], r"(?s)row 2, Time: 'noon' is no time of the form iso.*row 3"),
        ("s", ["5", "1396437466940", "7"], r"row 2, Time: is after the year 5000 when read in s\. Mend"),
        ("s", ["5", "five", ""], r"(?s)line 3, Time: 'five' is not a number.*line 4, Time: is empty"),
        ("%Y", ["2014", "x", "2015"], r"row 2, Time: 'x' is no time of the form %Y"),
    ],
)
def test_bad_times_are_named_with_their_rows(tmp_path, form, cells, message):
    rows = "".join(f"1\tx\t{cell}\n" for cell in cells)
    with pytest.raises(DataError, match=message):
        events(text(tmp_path, "a.tsv", f"SessionId\tItemId\tTime\n{rows}"), time_format=form)


@pytest.mark.fault("tables")
def test_all_bad_times_of_a_file_are_in_one_error(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 64)
    cells = ["noon" if row in (3, 90) else "2014-04-02" for row in range(1, 100)]
    folder = text(tmp_path, "a.tsv", "SessionId\tItemId\tTime\n" + "".join(f"1\tx\t{cell}\n" for cell in cells))
    with pytest.raises(DataError, match=r"(?s)row 3, Time: 'noon' is no time .*row 90, Time.*set source\.time_format"):
        events(folder, time_format="iso")


def test_users_and_sessions_of_users(tmp_path):
    folder = text(tmp_path, "a.csv", "who,visit,what,when\nu,1,x,5\nv,1,y,6\n")
    settings = {"events": "a.csv", "columns": {"session": None, "user": "who", "item": "what", "time": "when"}}
    assert [user for user, *_ in events(folder, **settings)] == ["u", "v"]
    settings["columns"] |= {"session": "visit"}
    assert [user for user, *_ in events(folder, **settings)] == ["u/1", "v/1"]


def test_kinds_of_event(tmp_path):
    folder = text(tmp_path, "a.csv", "SessionId,ItemId,Time,kind\n1,x,5,view\n1,y,6,cart\n1,,7,page\n1,y,8,view\n")
    settings = {"columns": {"event_type": "kind"}, "keep_types": ["view"]}
    with pytest.raises(DataError, match="line 4, ItemId: is empty"):
        events(folder, **settings)
    (folder / "a.csv").write_text((folder / "a.csv").read_text().replace("1,,7", "1,z,7"))
    source = open_source(folder, **settings)
    assert [row["item_id"] for batch in source.interactions() for row in batch.to_pylist()] == ["x", "y"]
    assert source.counts == {"other_event_types": 2}
    # Items are numbered as they appear, whatever happened to them.
    assert items(folder, **settings) == ["x", "y", "z"]
    source = open_source(folder, **settings, sessions_from="all")
    assert [row["role"] for batch in source.interactions() for row in batch.to_pylist()] == [0, -1, -1, 0]


def test_prepared_files_are_parts_and_equal_numbers_two_sessions(tmp_path):
    write_sessions(tmp_path, ROWS, "my_train.txt")
    write_sessions(tmp_path, ROWS[:2], "my-test.v2.txt")
    write_sessions(tmp_path, ROWS[2:], "2nd.txt")
    settings = {"train": "my_train.txt", "test": ["my-test.v2.txt", "2nd.txt"]}
    source = open_source(tmp_path, **settings)
    assert source.parts == ("train", "my_test", "2nd")
    assert [user for user, *_ in events(tmp_path, **settings)] == [
        *["train/4", "train/4", "train/9"],
        *["my_test/4", "my_test/4", "2nd/9"],
    ]
    roles = [row["role"] for batch in source.interactions() for row in batch.to_pylist()]
    assert roles == [0, 0, 0, 1, 1, 2]
    with pytest.raises(ConfigError, match="two have the same name"):
        open_source(tmp_path, train="my_train.txt", test=["2nd.txt", "2nd.txt"])


def test_items_appear_in_the_train_file_first(tmp_path):
    write_sessions(tmp_path, [(1, "new", 1), (1, "b", 2)], "a_test.tsv")
    write_sessions(tmp_path, ROWS, "z_train.tsv")
    assert items(tmp_path) == ["b", "a", "new"]


def test_a_table_of_items_gives_texts_and_pictures(tmp_path):
    folder = write_sessions(tmp_path, ROWS)
    text(folder, "items.csv", "item_id,title,year\nb,Bolt,1999\na,Nut,\nc,Cog,\n")
    write_zip(folder / "images.zip", {"a.jpg": picture()})
    source = open_source(folder)
    rows = pa.Table.from_batches(source.items()).to_pylist()
    assert [(row["item_id"], row["text"], row["picture"]) for row in rows] == [
        ("b", "Bolt (1999).", None),
        ("a", "Nut.", "a.jpg"),
        ("c", "Cog.", None),
    ]
    assert source.items_file.name == "items.csv"
    assert [path.name for path in source.other_files] == ["images.zip"]
    assert [name for name, cls in plugins.discover("sources").items() if cls.detect(folder)] == ["sessions"]


def test_the_authors_files_are_told_apart_by_their_names(tmp_path):
    for name in ("x_train_full", "x_test", "x_train_tr", "x_train_valid"):
        write_sessions(tmp_path, ROWS, f"{name}.txt")
    source = open_source(tmp_path)
    assert (source.events_file.name, source.parts) == ("x_train_full.txt", ("train", "x_test"))
    (tmp_path / "x_train_full.txt").rename(tmp_path / "x_train.txt")
    assert open_source(tmp_path).parts == ("train", "valid", "x_test")
    (tmp_path / "x_test.txt").unlink()
    with pytest.raises(DataError, match=r"has x_train\.txt, .*Set source\.train and source\.test, or source\.events"):
        open_source(tmp_path)


@pytest.mark.parametrize("write", [write_amazon, write_atomic, write_tables])
def test_other_sources_are_not_sessions(tmp_path, write):
    assert not Sessions.detect(write(tmp_path))


def test_files_of_other_columns_are_not_sessions(tmp_path):
    text(tmp_path, "ratings.csv", "userId,movieId,rating,timestamp\n1,1,1,1\n")
    text(tmp_path, "events.tsv", "session\titem\ttime\n1\t1\t1\n")
    (tmp_path / "noise.txt").write_bytes(bytes(range(256)))
    (tmp_path / "empty.csv").touch()
    assert not Sessions.detect(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"events": "a.csv", "train": "b.csv", "test": "c.csv"}, "give one or the other"),
        ({"train": "b.csv"}, "give both train and test"),
        ({"valid": "b.csv"}, "give both train and test"),
        ({"columns": {"session": None}}, "session and user are both null"),
        ({"keep_types": ["view"]}, "belong together"),
        ({"columns": {"event_type": "kind"}}, "belong together"),
        ({"header": ["a", "a"]}, "a name stands twice"),
        ({"time_format": "hours"}, "'hours' is not s, ms, us, ns, iso or a pattern"),
        ({"delimiter": "::"}, "delimiter"),
        ({"column": {}}, "did you mean columns"),
        ({"columns": {"sesion": "x"}}, "did you mean session"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Sessions.Config, settings)


@pytest.mark.fault("tables")
@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"events": "../clicks.tsv"}, ConfigError, r"source\.events: '\.\./clicks\.tsv' is not a file in the"),
        ({"events": "clicks.exe"}, ConfigError, "ends in .txt"),
        ({"events": "other.tsv"}, DataError, r"no file 'other\.tsv' for source\.events; the folder holds clicks\.tsv"),
        ({"columns": {"item": "Item", "time": "When"}}, DataError, r"(?s)no column 'Item'.*'When' for time.*It has"),
        ({"images": "pictures"}, ConfigError, r"source\.images: no table of items"),
    ],
)
def test_missing_files_and_columns_are_named(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        open_source(write_sessions(tmp_path), **settings)


@pytest.mark.fault("tables")
def test_a_short_row_of_a_file_without_header_is_named(tmp_path):
    folder = text(tmp_path, "a.dat", "1,x,5\n1,x\n1,y,6,7\n")
    settings = {"events": "a.dat", "header": ["SessionId", "ItemId", "Time"]}
    with pytest.raises(DataError, match=r"(?s)line 2: 2 cells, expected 3.*line 3: 4 cells, expected 3"):
        events(folder, **settings)


def test_the_real_sample_of_retailrocket(tmp_path):
    source = open_source(
        real_data("sessions"),
        events="retailrocket_sample_10k.csv",
        # Tabs, whatever its name says.
        columns={"session": "session_id", "item": "item_id", "time": "timestamp"},
    )
    table = pa.Table.from_batches(source.interactions())
    counts = (table.num_rows, len(table["user_id"].unique()), sum(batch.num_rows for batch in source.items()))
    assert counts == (10_080, 2_950, 5_566)
