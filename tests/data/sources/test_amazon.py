import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from modalrec.data.sources.amazon import Amazon
from modalrec.errors import ConfigError, DataError
from tests.raw import picture, real_data, write_amazon, write_zip


def open_source(folder: Path, **settings) -> Amazon:
    return Amazon(Amazon.Config(**settings), folder)


def items(folder: Path, **settings) -> list[dict]:
    return pa.Table.from_batches(open_source(folder, **settings).items()).to_pylist()


def test_items_and_orders(tmp_path):
    folder = write_amazon(tmp_path)
    assert items(folder)[2] == {
        "item_id": "2",
        "title": "Drill 2",
        "text": "Drill 2. Tools, Drills. Acme. Works & lasts.",
        "categories": ["Tools", "Drills"],
        "year": None,
        "picture": None,
        "picture_url": None,
    }
    events = pa.Table.from_batches(open_source(folder).interactions())
    assert events["item_id"].to_pylist()[5:10] == ["1", "2", "3", "4", "5"]
    assert set(events["user_id"].to_pylist()[5:10]) == {"1"}


def test_texts_without_a_letter_are_none(tmp_path):
    fields = {"title": "", "description": " .", "brand": None, "categories": []}
    row = items(write_amazon(tmp_path, {"a": fields, "b": {}}, {"u": ["a"]}))
    assert [(item["title"], item["text"]) for item in row] == [(None, None), (None, None)]


def test_packed_files_are_read(tmp_path):
    folder = write_amazon(tmp_path)
    for name in ("Small.item.json", "Small.inter.json"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert Amazon.detect(folder)
    assert len(items(folder)) == 6
    (folder / "Small.item.json.gz").write_bytes((folder / "Small.item.json.gz").read_bytes()[:-12])
    with pytest.raises(DataError, match="cannot be read as JSON"):
        items(folder)


def test_pictures_are_found_by_item_id(tmp_path):
    folder = write_amazon(tmp_path)
    write_zip(folder / "images.zip", {"deep/2.png": picture(kind="PNG")})
    write_zip(folder / "more.zip", {"3.jpg": picture()})
    assert [item["picture"] for item in items(folder)] == [None, None, "deep/2.png", None, None, None]
    assert [item["picture"] for item in items(folder, images="more.zip")] == [None, None, None, "3.jpg", None, None]
    with pytest.raises(ConfigError, match="outside"):
        items(folder, images="../more.zip")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("item", '{"1": {"title": "x"}, "2": {"ti', r"line 1, column \d+: .*cut short"),
        ("item", '{"1": {"title":\n "x"}\n "2": 1}', "line 3, column 2"),
        ("item", "[]", "expected one JSON object"),
        ("item", "{}", "expected one JSON object"),
        ("item", '{"1": {"title": 5}, "2": [], "": {}}', r"(?s)item '1': title is not text.*item '2': is not.*item ''"),
        ("item", '{"1": {"title": "a"}, "1": {"title": "b"}}', "id '1': stands twice"),
        ("inter", '{"u": [1], "u": [2]}', "id 'u': stands twice"),
        (
            "inter",
            '{"u": {"1": 2}, "v": [1, null, "", 2.5, true]}',
            r"(?s)'u': is not a list.*'v', place 1: .*place 4",
        ),
        ("inter", "[" * 100_000, "cannot be read as JSON|line 1"),
        ("inter", '{"u": [\udce9', "cannot be read as JSON"),
    ],
)
def test_bad_json_is_named(tmp_path, name, content, message):
    folder = write_amazon(tmp_path)
    (folder / f"Small.{name}.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    source = open_source(folder)
    with pytest.raises(DataError, match=message) as caught:
        list(source.items() if name == "item" else source.interactions())
    assert f"Small.{name}.json" in str(caught.value)


def test_the_real_products_are_as_counted():
    source = open_source(real_data("amazon_scientific"))
    table = pa.Table.from_batches(source.items())
    assert table.num_rows == 4344
    assert source.counts == {"titles": 4344, "descriptions": 4221}
    events = pa.Table.from_batches(source.interactions())
    assert events.num_rows == 58_492
    assert len(events["user_id"].unique()) == 8317
    assert len(events["item_id"].unique()) == 4344
