from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.config import resolve
from modalrec.data.sources.tables import Tables
from modalrec.errors import ConfigError, DataError
from tests.raw import picture, write_tables, write_zip


def open_source(folder: Path, **settings) -> Tables:
    return Tables(resolve(Tables.Config, settings), folder)


def items(folder: Path, **settings) -> list[dict]:
    return pa.Table.from_batches(open_source(folder, **settings).items()).to_pylist()


def events(folder: Path, **settings) -> list[dict]:
    return pa.Table.from_batches(open_source(folder, **settings).interactions()).to_pylist()


def as_parquet(folder: Path, **columns) -> Path:
    """The same tables as parquet; `columns` replace those of the interactions."""
    write_tables(folder)
    for name in ("items", "interactions"):
        frame = pd.read_csv(folder / f"{name}.csv")
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for column, values in columns.items() if name == "interactions" else ():
            table = table.set_column(table.column_names.index(column), column, values)
        pq.write_table(table, folder / f"{name}.parquet")
        (folder / f"{name}.csv").unlink()
    return folder


def test_csv(tmp_path):
    folder = write_tables(tmp_path)
    assert items(folder)[1] == {
        "item_id": "f1",
        "title": "Film 1",
        "text": "Film 1 (1991). Comedy, War. A film about 1.",
        "categories": ["Comedy", "War"],
        "year": 1991,
        "picture": None,
        "picture_url": None,
    }
    told = {name: value for name, value in events(folder)[0].items() if value is not None}
    assert told == {"user_id": "u0", "item_id": "f1", "timestamp": 1_000_000_060, "rating": 2}


def test_parquet_and_csv_give_the_same(tmp_path):
    plain, parquet = write_tables(tmp_path / "csv"), as_parquet(tmp_path / "parquet")
    assert items(plain) == items(parquet)
    assert events(plain) == events(parquet)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)] * 40, pa.timestamp("us", "UTC")),
        pa.array([datetime(2001, 9, 9, 1, 46, 40)] * 40, pa.timestamp("ns")),
        pa.array([1_000_000_000.7] * 40),
    ],
    ids=["utc", "naive", "fraction"],
)
def test_times_in_many_types(tmp_path, times):
    assert events(as_parquet(tmp_path, timestamp=times))[0]["timestamp"] == 1_000_000_000


def test_times_in_another_unit(tmp_path):
    folder = write_tables(tmp_path, interactions="user_id,item_id,timestamp\nu,f1,1000000000500\n")
    assert events(folder, timestamp_unit="ms")[0]["timestamp"] == 1_000_000_000
    with pytest.raises(DataError, match=r"row 1, timestamp: is after the year 5000 .* Set timestamp_unit"):
        events(folder)


def test_lists_numbers_and_dictionaries_in_parquet(tmp_path):
    folder = as_parquet(tmp_path, user_id=pa.array(list(range(40))), item_id=pa.array(["f1"] * 40).dictionary_encode())
    table = pq.read_table(folder / "items.parquet").drop_columns(["categories"])
    pq.write_table(table.append_column("categories", pa.array([["A", "B"]] * 6)), folder / "items.parquet")
    assert items(folder)[0]["categories"] == ["A", "B"]
    assert events(folder)[3]["user_id"] == "3"
    assert events(folder)[3]["item_id"] == "f1"


def test_columns_of_other_names(tmp_path):
    folder = write_tables(tmp_path, "sku,name\na,Bolt\nb,Nut\n", "who,sku\nu,a\nu,b\n")
    settings = {
        "item_columns": {"item_id": "sku", "title": "name"},
        "event_columns": {"user_id": "who", "item_id": "sku"},
    }
    assert [item["text"] for item in items(folder, **settings)] == ["Bolt.", "Nut."]
    source = open_source(folder, **settings)
    assert (source.has_timestamps, source.has_ratings) == (False, False)
    with pytest.raises(DataError, match=r"no column 'item_id' for item_id\. It has sku, name; set item_columns"):
        open_source(folder)


@pytest.mark.fault("tables")
def test_a_column_named_in_the_config_must_be_there(tmp_path):
    with pytest.raises(DataError, match="no column 'titel' for title"):
        open_source(write_tables(tmp_path), item_columns={"title": "titel"})


def test_pictures_by_column_or_item_id(tmp_path):
    folder = write_tables(tmp_path, "item_id,image\nf0,\nf1,one.png\nf2,gone.jpg\nf3,\n")
    write_zip(folder / "images.zip", {"f0.jpg": picture(), "one.png": picture(kind="PNG")})
    assert [item["picture"] for item in items(folder)] == ["f0.jpg", "one.png", "gone.jpg", None]


@pytest.mark.fault("tables")
def test_a_picture_outside_of_the_folder_is_refused(tmp_path):
    folder = write_tables(tmp_path, "item_id,image\nf0,a.jpg\nf1,../../etc/x.jpg\nf2,/etc/y.jpg\n")
    with pytest.raises(DataError, match=r"(?s)row 2, image: '\.\./\.\./etc/x\.jpg' leads out.*row 3"):
        items(folder)


@pytest.mark.fault("tables")
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pa.array([1.5] * 40)}, "user_id: is double; write it as integers or strings"),
        ({"user_id": pa.array(["u"] * 20 + [None] + ["u"] * 19)}, "row 21, user_id: is empty"),
        ({"item_id": pa.array(["u"] * 39 + [""])}, "row 40, item_id: is empty"),
        ({"item_id": pa.array([["u"]] * 40)}, "item_id: is list"),
        ({"timestamp": pa.array([None, *range(39)])}, "row 1, timestamp: is empty"),
        ({"rating": pa.array(["good"] * 40)}, "after row 0: .*good"),
    ],
)
def test_what_is_wrong_in_parquet_is_named(tmp_path, columns, message):
    with pytest.raises(DataError, match=message) as caught:
        events(as_parquet(tmp_path, **columns))
    assert "interactions.parquet" in str(caught.value)


@pytest.mark.fault("tables")
@pytest.mark.parametrize("keep", [0, 3, 500])
def test_a_cut_parquet_file_is_refused(tmp_path, keep):
    path = as_parquet(tmp_path) / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="is no complete parquet file"):
        open_source(tmp_path)


@pytest.mark.fault("tables")
def test_a_damaged_parquet_page_is_refused(tmp_path):
    path = as_parquet(tmp_path) / "interactions.parquet"
    raw = bytearray(path.read_bytes())
    raw[4:40] = bytes(36)
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"interactions\.parquet: after row 0"):
        events(tmp_path)


def test_files_are_named_in_the_config_and_lie_in_the_folder(tmp_path):
    folder = write_tables(tmp_path)
    (folder / "items.csv").rename(folder / "catalogue.csv")
    assert len(items(folder, items="catalogue.csv")) == 6
    with pytest.raises(ConfigError, match="not a file in the source folder"):
        open_source(folder, items="../catalogue.csv")
    with pytest.raises(DataError, match="no such file"):
        open_source(folder, items="other.csv")


@pytest.mark.fault("tables")
def test_two_tables_of_one_name_are_refused(tmp_path):
    write_tables(tmp_path).joinpath("items.tsv").write_text("item_id\nx\n")
    with pytest.raises(DataError, match=r"items\.csv, items\.tsv where one file of items"):
        open_source(tmp_path)
