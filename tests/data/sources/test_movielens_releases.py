"""Every form that GroupLens distributes, from a folder, a folder below, or the zip; and what others add."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from modalrec.config import resolve
from modalrec.data.sources.movielens import MovieLens
from modalrec.errors import DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import picture, write_zip

GENRES_100K = "unknown|0\nAction|1\nComedy|2\n"
FORMS = {
    "csv": {
        "ratings.csv": "userId,movieId,rating,timestamp\n7,1,4.5,100\n7,12,3.0,90\n8,1,1.0,95\n",
        "movies.csv": 'movieId,title,genres\n1,Caf\u00e9: Part 2 (1995),Action|Comedy\n12,"Matrix, The (1999)",Action\n'
        "30,Nothing,(no genres listed)\n",
        "tags.csv": "userId,movieId,tag,timestamp\n7,1,Slow  burn,5\n8,1,slow burn,6\n8,1,fun,7\n8,30,,8\n",
    },
    "dat": {
        "ratings.dat": "7::1::4.5::100\n7::12::3::90\n8::1::1::95\n",
        "movies.dat": "1::Caf\u00e9: Part 2 (1995)::Action|Comedy\n12::Matrix, The (1999)::Action\n30::Nothing::\n",
        "users.dat": "7::F::1::10::48067\n8::M::56::16::70072\n",
        "tags.dat": "7::1::Slow  burn::5\n8::1::slow burn::6\n8::1::fun::7\n",
    },
    "100k": {
        "u.data": "7\t1\t4.5\t100\n7\t12\t3\t90\n8\t1\t1\t95\n",
        "u.item": "1|Caf\u00e9: Part 2 (1995)|01-Jan-1995||http://x|0|1|1\n12|Matrix, The (1999)|||http://y|0|1|0\n"
        "30|Nothing||||1|0|0\n",
        "u.genre": GENRES_100K,
        "u.user": "7|17|F|student|48067\n8|60|M|retired|70072\n",
    },
}


def content(form: str) -> dict[str, bytes]:
    """The files; those of the older releases are in Latin-1."""
    return {name: text.encode("utf-8" if form == "csv" else "latin-1") for name, text in FORMS[form].items()}


def write(folder: Path, form: str, **changed: str | bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in (content(form) | {name.replace("__", "."): raw for name, raw in changed.items()}).items():
        (folder / name).write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    return folder


def open_source(folder: Path, **settings) -> MovieLens:
    return MovieLens(resolve(MovieLens.Config, settings), folder)


def films(folder: Path) -> dict[str, dict]:
    return {row["item_id"]: row for row in pa.Table.from_batches(open_source(folder).items()).to_pylist()}


def ratings(folder: Path) -> list[tuple]:
    rows = pa.Table.from_batches(open_source(folder).interactions()).to_pylist()
    return [(str(row["user_id"]), str(row["item_id"]), row["rating"], row["timestamp"]) for row in rows]


@pytest.mark.parametrize("place", ["folder", "below", "zip"])
@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same(tmp_path, form, place):
    if place == "zip":
        write_zip(tmp_path / "ml-x.zip", {f"ml-x/{name}": raw for name, raw in content(form).items()})
    else:
        write(tmp_path if place == "folder" else tmp_path / "ml-x", form)
    assert MovieLens.detect(tmp_path)
    assert ratings(tmp_path) == [("7", "1", 4.5, 100), ("7", "12", 3.0, 90), ("8", "1", 1.0, 95)]
    found = films(tmp_path)
    assert [(row["title"], row["year"], row["categories"]) for row in found.values()] == [
        ("Caf\u00e9: Part 2", 1995, ["Action", "Comedy"]),
        ("The Matrix", 1999, ["Action"]),
        ("Nothing", None, []),
    ]
    assert list(found) == ["1", "12", "30"]
    source = open_source(tmp_path)
    assert source.items_file.is_file()
    features = source.item_features()
    if form != "100k":
        assert features["tags"].to_pylist() == [["slow burn", "fun"], None, None]
        assert "tags" not in open_source(tmp_path, tags=False).item_features().column_names
    users = source.user_features()
    if form == "csv":
        assert users is None
    else:
        occupations = ["10", "16"] if form == "dat" else ["student", "retired"]
        assert users is not None
        assert users.to_pylist() == [
            {"id": "7", "age": "1", "gender": "F", "occupation": occupations[0]},
            {"id": "8", "age": "56", "gender": "M", "occupation": occupations[1]},
        ]


def test_a_zip_is_digested_as_one_file(tmp_path):
    write_zip(tmp_path / "ml-x.zip", {f"ml-x/{name}": raw for name, raw in content("csv").items()})
    ingest(
        tmp_path,
        tmp_path.with_name("dataset"),
        config=resolve(Config, {"min_user_events": 1, "min_item_events": 1, "splits": ["leave_one_out"]}),
        run=Run("ingest", quiet=True),
    )
    manifest = json.loads((tmp_path.with_name("dataset") / "manifest.json").read_text())
    assert list(manifest["statistics"]["source_files"]) == ["ml-x.zip"]


@pytest.mark.parametrize(
    ("form", "changed", "message"),
    [
        ("csv", {"ratings__csv": "userId,movieId,rating\n1,2,3\n"}, "no column 'timestamp'"),
        ("csv", {"ratings__csv": "userId,movieId,rating,timestamp\n1,2,3,4\n1,x,3,4\n"}, "line 3, movieId: 'x' is not"),
        ("csv", {"ratings__csv": "userId,movieId,rating,timestamp\n1,2,,4\n"}, "line 2, rating: is empty"),
        ("csv", {"ratings__csv": "userId,movieId,rating,timestamp\n1,2,nan,4\n"}, "line 2, rating: 'nan' is not"),
        ("csv", {"ratings__csv": "userId,movieId,rating,timestamp\n1,2,3,4\n1,2,3\n"}, "line 3: 3 cells"),
        ("csv", {"movies__csv": "movieId,title\n1,x\n"}, "no column 'genres'"),
        ("dat", {"ratings__dat": "7::1::4\n8::1::x::5\n"}, r"(?s)line 1: 3 cells, expected 4.*line 2, rating: 'x'"),
        ("dat", {"movies__dat": "1::A (1999)::War\n2:B::War\nx::C::War\n"}, r"(?s)line 2: 2 cells.*line 3: 'x' is not"),
        ("dat", {"movies__dat": ""}, "is empty"),
        ("100k", {"u__item": "1|A|||\n"}, r"line 1: 5 cells between \|, expected 8"),
        ("100k", {"u__data": "7\t1\t4\n"}, "line 1: 3 cells"),
    ],
)
def test_damaged_files_are_named(tmp_path, form, changed, message):
    folder = write(tmp_path, form, **changed)
    with pytest.raises(DataError, match=message):
        print(films(folder), ratings(folder))


def test_byte_order_marks_and_windows_line_ends_are_no_damage(tmp_path):
    changed = {name.replace(".", "__"): b"\xef\xbb\xbf" + text.encode().replace(b"\n", b"\r\n")
               for name, text in FORMS["dat"].items()}  # fmt: skip
    folder = write(tmp_path, "dat", **changed)
    assert ratings(folder)[0] == ("7", "1", 4.5, 100)
    assert films(folder)["12"]["title"] == "The Matrix"


def test_two_releases_are_refused(tmp_path):
    write(tmp_path / "a", "csv")
    write(tmp_path / "b", "dat")
    with pytest.raises(DataError, match="no MovieLens data, or several"):
        open_source(tmp_path)


def test_a_hostile_or_damaged_zip_is_refused(tmp_path):
    write_zip(tmp_path / "ml-x.zip", {"../ratings.csv": b"x", "movies.csv": b"x"})
    with pytest.raises(DataError, match="its name leaves the folder"):
        open_source(tmp_path)
    raw = write_zip(tmp_path / "ml-x.zip", {f"ml-x/{name}": one for name, one in content("csv").items()}).read_bytes()
    (tmp_path / "ml-x.zip").write_bytes(raw[:-30])
    with pytest.raises(DataError, match="is not a complete zip"):
        open_source(tmp_path)
    with zipfile.ZipFile(tmp_path / "ml-x.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, one in content("csv").items():
            archive.writestr(f"ml-x/{name}", one)
    raw = (tmp_path / "ml-x.zip").read_bytes()
    (tmp_path / "ml-x.zip").write_bytes(raw.replace(b"7,1,4.5,100", b"7,1,4.0,100"))
    with pytest.raises(DataError, match=r"ml-x\.zip/ml-x/ratings\.csv: cannot be read \(Bad CRC"):
        ratings(tmp_path)


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_summaries_join_by_film(tmp_path, form):
    folder = write(tmp_path, "dat")
    if form == "csv":
        (folder / "summaries.csv").write_text('movieId,summary\n12,"A hacker,\nawake."\n1,\n99,Who?\n')
    else:
        rows = [{"movieId": 12, "summary": "A hacker,\nawake."}, {"movieId": "1", "summary": None}]
        rows += [{"movieId": 99, "summary": "Who?"}]
        (folder / "summaries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = open_source(folder)
    rows = pa.Table.from_batches(source.items()).to_pylist()
    assert [row["text"] for row in rows] == [
        "Caf\u00e9: Part 2 (1995). Action, Comedy.",
        "The Matrix (1999). Action. A hacker, awake.",
        "Nothing.",
    ]
    assert (source.counts["films_with_plot"], source.counts["plots_of_unknown_films"]) == (1, 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summaries.csv", "movieId,plot\n1,x\n", "no column 'summary'"),
        ("summaries.csv", "movieId,summary\n1,x\n1,y\n", "row 2: film 1 has a summary already"),
        (
            "summaries.jsonl",
            '{"movieId": 1}\n[]\n{\n{"movieId": 2, "summary": 7}\n',
            r"(?s)line 1.*line 2.*line 3.*line 4",
        ),
        ("posters.csv", "movieId,poster_path\n1,../../x.jpg\n", "row 1, poster_path: .* leads out of the folder"),
        ("posters.csv", "movieId,poster_path\n1,/a.jpg\n1,/b.jpg\n", "row 2: film 1 has a poster already"),
        ("posters.csv", "movieId,poster_path\nx,a.jpg\n", "line 2, movieId: 'x' is not a number"),
    ],
)
def test_damaged_additions_are_named(tmp_path, name, text, message):
    folder = write(tmp_path, "csv")
    (folder / "posters").mkdir()
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        films(folder)


@pytest.mark.parametrize("place", ["posters", "posters.zip", "images.zip"])
def test_posters_join_by_film(tmp_path, place):
    folder = write(tmp_path / "ml-x", "csv").parent
    lines = ["movieId,poster_path", "1,/one.jpg", "12,https://posters.example.org/12.jpg", "30,gone.png", "99,one.jpg"]
    (folder / "posters.csv").write_text("\n".join(lines) + "\n")
    if place == "posters":
        (folder / place).mkdir()
        (folder / place / "one.jpg").write_bytes(picture())
    else:
        write_zip(folder / place, {"deep/one.jpg": picture()})
    source = open_source(folder)
    rows = pa.Table.from_batches(source.items()).to_pylist()
    assert [(row["picture"], row["picture_url"]) for row in rows] == [
        ("one.jpg" if place == "posters" else "deep/one.jpg", None),
        (None, "https://posters.example.org/12.jpg"),
        ("gone.png", None),
    ]
    assert (source.counts["films_with_poster"], source.counts["posters_of_unknown_films"]) == (3, 1)
    archive = source.pictures()
    assert archive is not None
    assert archive.read(rows[0]["picture"], 1 << 20) == picture()


def test_posters_that_are_named_must_be_somewhere(tmp_path):
    folder = write(tmp_path, "csv")
    (folder / "posters.csv").write_text("movieId,poster_path\n1,one.jpg\n")
    with pytest.raises(DataError, match="no folder or zip `posters` is there to look into"):
        films(folder)
