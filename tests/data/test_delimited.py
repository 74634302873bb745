import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from modalrec.data import delimited
from modalrec.data.delimited import read_delimited
from modalrec.errors import DataError

SCHEMA = pa.schema(
    [
        pa.field("user", pa.string(), nullable=False),
        pa.field("rating", pa.float32()),
        pa.field("time", pa.int64(), nullable=False),
    ]
)
HEAD = "user,rating,time\n"


def write(folder: Path, content: str | bytes, name: str = "events.csv") -> Path:
    path = folder / name
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def rows(path: Path, schema: pa.Schema = SCHEMA, **style) -> list[dict]:
    return [row for batch in read_delimited(path, schema, **style) for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f"{HEAD}a,4.5,10\nb,,20\n", "plain.csv"),
        (f"\ufeff{HEAD}a,4.5,10\nb,,20\n", "bom.csv"),
        (f"{HEAD}a,4.5,10\r\n\r\nb,,20", "blank_line_and_no_end.csv"),
        (f"{HEAD} a , 4.5,10\nb, ,2e1\n", "blanks.csv"),
        (f"{HEAD}a,4.5,10.0\nb,,20\n", "packed.csv.gz"),
        ('time,note,user,"rating"\n10,"two\nlines, ""quoted""",a,4.5\n20,x,b,\n', "other_order.csv"),
    ],
)
def test_the_same_rows_in_many_spellings(tmp_path, content, name):
    expected = [{"user": "a", "rating": 4.5, "time": 10}, {"user": "b", "rating": None, "time": 20}]
    assert rows(write(tmp_path, content, name)) == expected


def test_quotes_are_plain_letters_where_there_is_no_quoting(tmp_path):
    path = write(tmp_path, 'user\trating\ttime\n"a\t1\t2\nb"\t1\t2\n', "x.tsv")
    assert [row["user"] for row in rows(path, delimiter="\t", quoting=False)] == ['"a', 'b"']


@pytest.mark.parametrize("odd", ["u1500,1,1500", "u1500, 1 ,1500 ", '"u1500",1,1500'], ids=["none", "blanks", "quote"])
def test_batches_cover_a_file_larger_than_a_block(tmp_path, monkeypatch, odd):
    for name in ("BLOCK", "NUMBERS_BLOCK"):
        monkeypatch.setattr(delimited, name, 4096)
    lines = [f"u{n},1,{n}" for n in range(2000)]
    lines[1500] = odd
    batches = list(read_delimited(write(tmp_path, HEAD + "\n".join(lines)), SCHEMA))
    assert len(batches) > 3
    for name, expected in (("time", list(range(2000))), ("user", [f"u{n}" for n in range(2000)])):
        assert [value for batch in batches for value in batch[name].to_pylist()] == expected


@pytest.mark.fault("tables")
def test_a_bad_line_far_behind_is_found_when_the_lines_before_it_have_been_read(tmp_path, monkeypatch):
    for name in ("BLOCK", "NUMBERS_BLOCK"):
        monkeypatch.setattr(delimited, name, 4096)
    lines = [f"u{n},1,{n}" for n in range(2000)]
    lines[1500] = "u1500,0x1,1500"
    batches = read_delimited(write(tmp_path, HEAD + "\n".join(lines)), SCHEMA)
    next(batches)
    with pytest.raises(DataError, match="line 1502, rating: '0x1' is not a number"):
        list(batches)


@pytest.mark.fault("tables")
def test_a_doubled_delimiter(tmp_path):
    path = write(tmp_path, "a::4.5::10::x\nb:: 3 ::20::\n")
    names = ["user", "rating", "time", "note"]
    assert [tuple(row.values()) for row in rows(path, delimiter="::", quoting=False, names=names)] == [
        ("a", 4.5, 10),
        ("b", 3.0, 20),
    ]
    path = write(tmp_path, "a::4.5::10::x\nb::3::20\nc::3:2::20\nd::many::20::z\n")
    with pytest.raises(DataError) as caught:
        rows(path, delimiter="::", quoting=False, names=names)
    for message in ("line 2: 3 cells, expected 4", "line 3: ", "line 4, rating: 'many' is not a number"):
        assert message in str(caught.value)


@pytest.mark.fault("tables")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        (HEAD, "no rows"),
        ("\n", "no header"),
        (b"\xff\xfeu\x00s\x00", "no header in UTF-8"),
        ("user,rating\na,1\n", "no column 'time'; found 'user', 'rating'"),
        ("user,time,rating,time\na,1,1,1\n", "two columns are named 'time'"),
        (f"{HEAD}a,1,1\nb,2\nc,3,3\n", "line 3: 2 cells, the header has 3"),
        (f"{HEAD}a,1,1\nb,2,2,2\n", "line 3: 4 cells, the header has 3"),
        (f"{HEAD}a,five,1\n", "line 2, rating: 'five' is not a number"),
        (f"{HEAD}a,nan,1\n", "line 2, rating: 'nan' is not a number"),
        (f"{HEAD}a,1_0,1\n", "line 2, rating: '1_0' is not a number"),
        (f"{HEAD}a,1,yesterday\n", "line 2, time: 'yesterday' is not a number"),
        (f"{HEAD}a,1,1.5\n", "line 2, time: '1.5' is not a whole number"),
        (f"{HEAD}a,1,\n", "line 2, time: is empty"),
        (f"{HEAD} ,1,1\n", "line 2, user: is empty"),
        (f"{HEAD}".encode() + b"\xe9,1,1\n", r"line 2, user: .* is not UTF-8"),
        (f'{HEAD}a,1,1\n"b,1,1\nc,1,1\n', r"line 3: .*quote not closed"),
        (f'{HEAD}"a\nb,""c",1,1\nx,"1\ny,"2\n', r"line 4: .*quote not closed"),
        (f'{HEAD}"b,1,1\nc",1,1\n', "line 2, user: .*holds a line break"),
        ('user,rating,time,note\na,1,1,x\nb,2,2,"open\nc,3,3,z\n', r"line 3: .*quote not closed"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=message) as caught:
        rows(path)
    assert str(path) in str(caught.value)


@pytest.mark.fault("tables")
def test_all_bad_lines_are_in_one_error_with_their_numbers(tmp_path):
    good = "".join(f'u,1,{n},"two\nlines"\n' for n in range(100))
    path = write(tmp_path, f"{HEAD[:-1]},note\n{good}x,bad,1,\n\ny,1\nz,1,,\n")
    with pytest.raises(DataError) as caught:
        rows(path)
    for expected in ("line 202, rating: 'bad'", "line 204: 2 cells", "line 205, time: is empty"):
        assert expected in str(caught.value)


@pytest.mark.fault("tables")
def test_many_problems_are_counted_and_the_first_ones_shown(tmp_path):
    with pytest.raises(DataError, match="and 480 more"):
        rows(write(tmp_path, HEAD + "a,x,1\n" * 500))


@pytest.mark.fault("tables")
@pytest.mark.parametrize("cut", [4, 12, 400])
def test_a_cut_gzip_is_refused(tmp_path, cut):
    path = write(tmp_path, HEAD + "".join(f"u{n * n},1,{n}\n" for n in range(500)), "events.csv.gz")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError, match="is cut short; fetch it again"):
        rows(path)


@pytest.mark.fault("tables")
def test_what_is_no_gzip_is_refused(tmp_path):
    path = tmp_path / "events.csv.gz"
    path.write_text(f"{HEAD}a,1,1\n")
    with pytest.raises(DataError, match="cannot be read"):
        rows(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.csv: no such file"):
        rows(tmp_path / "gone.csv")


@pytest.mark.parametrize("name", ["plain.csv", "packed.csv.gz"])
def test_a_file_without_a_header_has_its_columns_named(tmp_path, name):
    path = write(tmp_path, "10,x,a,4.5\n20,,b,\n", name)
    names = ["time", "note", "user", "rating"]
    assert [tuple(row.values()) for row in rows(path, names=names)] == [("a", 4.5, 10), ("b", None, 20)]
    with pytest.raises(DataError, match="no column 'rating'; found 'time', 'user'"):
        rows(path, names=["time", "user"])
    short = write(tmp_path, "10,x,a,4.5\n20,b\nnoon,,c,1\n", name)
    with pytest.raises(DataError, match=r"(?s)line 2: 2 cells, expected 4.*line 3, time: 'noon' is not a number"):
        rows(short, names=names)
