"""The releases of 2014, 2018 and 2023 in the exact forms in which they are distributed."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from modalrec import plugins
from modalrec.config import resolve
from modalrec.data.sources import _json_lines
from modalrec.data.sources.amazon import Amazon
from modalrec.errors import ConfigError, DataError
from tests.raw import picture, write_amazon, write_lines, write_reviews, write_zip

RELEASES = (2014, 2018, 2023)
META = {2014: "meta_Tools.json.gz", 2018: "meta_Tools.json.gz", 2023: "meta_Tools.jsonl.gz"}
REVIEWS = {2014: "reviews_Tools_5.json.gz", 2018: "Tools_5.json.gz", 2023: "Tools.jsonl.gz"}
CSV = "user_id,parent_asin,rating,timestamp\n"


def open_source(folder: Path, **settings: Any) -> Amazon:
    return Amazon(resolve(Amazon.Config, settings), folder)


def items(folder: Path, **settings: Any) -> list[dict[str, Any]]:
    return pa.Table.from_batches(open_source(folder, **settings).items()).to_pylist()


def events(folder: Path, **settings: Any) -> list[tuple[Any, ...]]:
    table = pa.Table.from_batches(open_source(folder, **settings).interactions())
    return [tuple(row.values())[:4] for row in table.to_pylist()]


def lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.mark.parametrize("release", RELEASES)
def test_it_alone_detects_a_release_and_reads_its_reviews(tmp_path: Path, release: int) -> None:
    folder = write_reviews(tmp_path, release)
    assert [name for name, cls in plugins.discover("sources").items() if cls.detect(folder)] == ["amazon"]
    source = open_source(folder)
    ticks = 1000 if release == 2023 else 1
    assert (source.has_timestamps, source.has_ratings, source.per_second) == (True, True, ticks)
    assert {path.name for path in (source.items_file, source.events_file)} == {META[release], REVIEWS[release]}
    assert events(folder, release=release) == events(folder)
    expected = 1_400_000_060 * ticks + (7 if release == 2023 else 0)
    assert events(folder)[6] == ("A1", "B2", expected, 2.0)
    assert len(events(folder)) == 40


TEXTS = {
    2014: "Drill B2. Tools, Drills, Gifts. Acme's. Works & lasts.",
    2018: "Drill B2. Tools, Drills. Acme. Red. 500 W. Works. Lasts.",
    2023: "Drill B2. Tools, Drills. Acme. Red. Works. Lasts.",
}


@pytest.mark.parametrize("release", RELEASES)
def test_products(tmp_path: Path, release: int) -> None:
    row = items(write_reviews(tmp_path, release))[2]
    assert row == {
        "item_id": "B2",
        "title": "Drill B2",
        "text": TEXTS[release],
        "categories": ["Tools", "Drills", *(["Gifts"] if release == 2014 else [])],
        "year": None,
        "picture": None,
        "picture_url": "http://images.example.org/I/B2.jpg",
    }


def test_the_text_is_made_of_the_fields_in_their_order(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    assert items(folder, fields=["title", "description"])[0]["text"] == "Drill B0. Works. Lasts."
    assert items(folder, fields=["features", "brand"])[0]["text"] == "Red. 500 W. Acme."
    with pytest.raises(ConfigError, match=r"fields: one is named twice"):
        open_source(folder, fields=["title", "title"])
    with pytest.raises(ConfigError, match="fields"):
        open_source(folder, fields=["name"])
    assert items(write_amazon(tmp_path / "sequences"), fields=["title", "description"])[2]["text"] == (
        "Drill 2. Works & lasts."
    )


def test_a_title_that_is_a_script_and_absurd_categories_are_left_out(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    script = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();"
    rows = [{"asin": "B0", "title": script, "category": ["Tools", "x" * 500], "imageURL": ["ftp://x/y.jpg"]}]
    rows += [{"asin": "B1", "title": None, "description": [], "brand": "."}]
    write_lines(folder / META[2018], [json.dumps(row) for row in rows])
    source = open_source(folder)
    found = pa.Table.from_batches(source.items()).to_pylist()
    assert [(row["title"], row["text"], row["picture_url"]) for row in found] == [
        (None, "Tools.", None),
        (None, None, None),
    ]
    assert source.counts["unformatted_titles"] == 1


def test_the_first_line_of_a_repeated_product_counts(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    rows = [{"asin": "B0", "title": title} for title in ("one", "two")] + [{"asin": "B1", "title": "one"}]
    write_lines(folder / META[2018], [json.dumps(row) for row in rows])
    source = open_source(folder)
    table = pa.Table.from_batches(source.items())
    assert table["title"].to_pylist() == ["one", "one"]
    assert source.counts["repeated_items"] == 1


def test_pictures_beside_the_release_come_first(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2014)
    write_zip(folder / "images.zip", {"B1.jpg": picture()})
    found = items(folder)
    assert [row["picture"] for row in found] == [None, "B1.jpg", None, None, None, None]
    assert [path.name for path in open_source(folder).other_files] == ["images.zip"]


@pytest.mark.parametrize("history", [False, True], ids=["pure", "with history"])
def test_the_five_core_tables_of_2023(tmp_path: Path, history: bool) -> None:
    folder = write_reviews(tmp_path, 2023)
    (folder / "Tools.jsonl.gz").unlink()
    header = CSV.strip() + ",history\n" if history else CSV
    end = ",B1 B2" if history else ""
    rows = [f"A{user},B{user},{user}.0,{1_600_000_000_123 + user}{end}" for user in range(4)]
    (folder / "Tools.csv.gz").write_bytes(gzip.compress((header + "\n".join(rows) + "\n").encode()))
    assert Amazon.detect(folder)
    assert events(folder) == [(f"A{user}", f"B{user}", 1_600_000_000_123 + user, float(user)) for user in range(4)]
    assert len(items(folder)) == 6


def test_the_three_parts_of_the_five_core_are_read_as_one(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2023)
    (folder / "Tools.jsonl.gz").unlink()
    for number, part in enumerate(("train", "valid", "test")):
        (folder / f"Tools.{part}.csv").write_text(f"{CSV}A1,B{number},5.0,{1_600_000_000_000 + number}\n")
    assert [row[1] for row in events(folder)] == ["B0", "B1", "B2"]
    assert [path.name for path in open_source(folder).other_files] == ["Tools.valid.csv", "Tools.test.csv"]
    (folder / "Tools.valid.csv").unlink()
    assert not Amazon.detect(folder)


def test_several_sets_of_reviews_are_told_apart_by_name(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    write_lines(folder / "Tools.json.gz", lines(folder / "Tools_5.json.gz") * 2)
    with pytest.raises(DataError, match=r"more than one .* meta_Tools.json.gz with Tools.json.gz; .*Tools_5.json.gz"):
        open_source(folder)
    assert len(events(folder, reviews="Tools_5.json.gz")) == 40
    assert len(events(folder, reviews="Tools.json.gz")) == 80
    with pytest.raises(DataError, match=r"no file 'Toys\.json' for source\.reviews"):
        open_source(folder, reviews="Toys.json")
    with pytest.raises(ConfigError, match="outside"):
        open_source(folder, reviews="../Tools.json")
    with pytest.raises(DataError, match=r"(?s)no release .* 2023: meta_NAME\.jsonl\.gz"):
        open_source(folder, release=2023)
    with pytest.raises(ConfigError, match="leave them out for sequences"):
        open_source(write_amazon(tmp_path / "sequences"), reviews="x.json")


def test_metadata_alone_is_no_release(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2014)
    (folder / REVIEWS[2014]).unlink()
    assert not Amazon.detect(folder)
    write_lines(folder / "Tools_5.json", ["{}"])
    assert Amazon.detect(folder), "reviews of 2018 do not begin with reviews_"


@pytest.mark.parametrize("release", [2014, 2018])
def test_all_bad_review_lines_are_named_at_once(tmp_path: Path, release: int) -> None:
    folder = write_reviews(tmp_path, release)
    good = lines(folder / REVIEWS[release])
    bad = [
        '{"reviewerID": "A1", "asin": "B1", "overall": 5.0',
        '{"asin": "B1", "overall": "five", "unixReviewTime": 1.5}',
        '["A1"]',
        "",
        '{"reviewerID": "", "asin": 7, "overall": NaN, "unixReviewTime": true}',
        '{"reviewerID": "\\ud800", "asin": "B1", "unixReviewTime": 1e400}',
    ]
    write_lines(folder / REVIEWS[release], good[:3] + bad + good[3:])
    with pytest.raises(DataError) as caught:
        events(folder)
    for part in (
        f"{REVIEWS[release]}: ",
        "line 4: is not JSON (",
        "line 5: reviewerID is missing; unixReviewTime is no whole number: 1.5; overall is no number: 'five'",
        "line 6: is no object: '[\"A1\"]'",
        "line 8: reviewerID is empty; asin is no text: 7; unixReviewTime is no number: True; overall is not finite",
        "line 9: reviewerID is no text: '\\ud800'; unixReviewTime is not finite",
        "5 of 45 lines are bad, more than max_bad_share=0 of the source",
    ):
        assert part in str(caught.value)
    source = open_source(folder, max_bad_share=0.2)
    assert pa.Table.from_batches(source.interactions()).num_rows == 40
    assert source.counts["bad_review_lines"] == 5


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"asin": "B1", "unixReviewTime": 1}', "reviewerID is missing"),
        ('{"reviewerID": "A1", "asin": "", "unixReviewTime": 1}', "asin is empty"),
        ('{"reviewerID": "A1", "asin": "B1", "unixReviewTime": 1, "overall": NaN}', "overall is not finite"),
        ('{"reviewerID": "A1", "asin": "B1", "unixReviewTime": null}', "unixReviewTime is missing"),
        ('{"reviewerID": "\xff", "asin": "B1", "unixReviewTime": 1}', "is not UTF-8"),
    ],
)
def test_one_line_that_is_json_and_no_review_is_found(tmp_path: Path, line: str, fault: str) -> None:
    folder = write_reviews(tmp_path, 2018)
    path = folder / REVIEWS[2018]
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + line.encode("latin-1")))
    with pytest.raises(DataError, match=f"line 41: {fault}"):
        events(folder)


def test_a_review_need_not_have_a_rating_and_whole_numbers_may_have_a_point(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    rows = ['{"reviewerID": "A", "asin": "B", "unixReviewTime": 12.0}']
    rows += ['{"reviewerID": "A", "asin": "C", "unixReviewTime": 13, "overall": null}']
    write_lines(folder / REVIEWS[2018], rows)
    assert events(folder) == [("A", "B", 12, None), ("A", "C", 13, None)]


def test_all_bad_product_lines_are_named_at_once(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2014)
    bad = [
        "{'asin': 'B7', 'title': ",
        "{'asin': 'B7', 'title': open('/etc/passwd').read()}",
        "{'title': 'Nameless'}",
        "{'asin': 'B7', 'title': 5, 'categories': [[1]]}",
        "{'asin': '" + "x" * 1_100_000 + "'}",
        "[" * 5000,
        "-" * 100_000 + "1",
    ]
    write_lines(folder / META[2014], lines(folder / META[2014]) + bad)
    with pytest.raises(DataError) as caught:
        items(folder)
    for part in (
        "line 7: is neither JSON nor a Python literal (",
        "line 8: is neither JSON nor a Python literal (malformed node",
        "line 9: asin is missing",
        "line 10: title is not text; categories is not text",
        "line 11: is longer than 1,048,576 bytes and not JSON",
        "line 12: is neither JSON nor a Python literal (",
        "line 13: is neither JSON nor a Python literal (",
    ):
        assert part in str(caught.value)
    source = open_source(folder, max_bad_share=0.6)
    assert pa.Table.from_batches(source.items()).num_rows == 6
    assert source.counts["bad_item_lines"] == 7


def test_literals_are_for_the_first_release_alone(tmp_path: Path) -> None:
    folder = write_reviews(tmp_path, 2018)
    write_lines(folder / META[2018], ["{'asin': 'B1'}"])
    with pytest.raises(DataError, match="line 1: is not JSON"):
        items(folder)


@pytest.mark.parametrize("release", RELEASES)
def test_a_file_that_is_cut_short_or_empty_is_refused(tmp_path: Path, release: int) -> None:
    folder = write_reviews(tmp_path, release)
    for name, read in ((META[release], items), (REVIEWS[release], events)):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-12])
        with pytest.raises(DataError, match=rf"{name}: .*is cut short; fetch it again"):
            read(folder)
        (folder / name).write_bytes(gzip.compress(b"\n\n"))
        with pytest.raises(DataError, match=rf"{name}: has no lines"):
            read(folder)
        (folder / name).write_bytes(content)


def test_lines_keep_their_numbers_over_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_reviews(tmp_path, 2018)
    expected, good = events(folder), lines(folder / REVIEWS[2018])
    monkeypatch.setattr(_json_lines, "BLOCK", 300)
    assert events(folder) == expected
    content = "\ufeff" + "\r\n".join([*good[:30], "", "{", *good[30:]])
    (folder / REVIEWS[2018]).write_bytes(gzip.compress(content.encode()))
    with pytest.raises(DataError, match=r"Tools_5\.json\.gz: line 32: is not JSON"):
        events(folder)
    assert events(folder, max_bad_share=0.1) == expected
    monkeypatch.setattr(_json_lines, "MAX_LINE", 400)
    (folder / REVIEWS[2018]).write_bytes(gzip.compress((good[0] + "\n" + " " * 1000).encode()))
    with pytest.raises(DataError, match="line 2: is longer than 400 bytes"):
        events(folder)
