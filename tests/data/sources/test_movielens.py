import json
from pathlib import Path

import pyarrow as pa
import pytest

from modalrec.data.sources.movielens import MovieLens
from modalrec.errors import DataError
from tests.raw import picture, real_data, real_ml100k, write_atomic, write_zip


def items(folder: Path) -> dict[str, dict]:
    source = MovieLens(MovieLens.Config(), folder)
    return {row["item_id"]: row for row in pa.Table.from_batches(source.items()).to_pylist()}


def write_csv(folder: Path, plots: bool = True, posters: bool = True) -> Path:
    """Three films: with plot and poster, with a plot alone, with neither."""
    tables = folder / "ml-latest-small"
    tables.mkdir(parents=True)
    tables.joinpath("movies.csv").write_text(
        'movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n2,"Matrix, The (1999)",Sci-Fi\n'
        "3,Babylon 5,(no genres listed)\n"
    )
    tables.joinpath("ratings.csv").write_text("userId,movieId,rating,timestamp\n7,1,4.5,100\n7,2,3.0,90\n8,3,1,100\n")
    tables.joinpath("poster_map.csv").write_text("movieId,imdbId,ml1m_id,has_poster\n1,0,11,1\n2,0,12,0\n3,0,,0\n")
    if plots:
        lines = [
            {"movie_id": 11, "plot": "A cowboy doll.", "poster": "posters_w128/11.jpg"},
            {"movie_id": 12, "plot": "A hacker.", "poster": None},
        ]
        (folder / "movies_ml1m.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    if posters:
        write_zip(folder / "posters_w128.zip", {"posters_w128/11.jpg": picture()})
    return folder


def test_atomic_files(tmp_path):
    folder = write_atomic(tmp_path)
    assert items(folder)["f1"] == {
        "item_id": "f1",
        "title": "The Film 1",
        "text": "The Film 1 (1991). Comedy, War.",
        "categories": ["Comedy", "War"],
        "year": 1991,
        "picture": None,
        "picture_url": None,
    }
    events = pa.Table.from_batches(MovieLens(MovieLens.Config(), folder).interactions()).to_pylist()
    told = {name: value for name, value in events[0].items() if value is not None}
    assert told == {"user_id": "u0", "item_id": "f1", "timestamp": 1_000_000_060, "rating": 2}


def test_csv_files_with_plots_and_posters(tmp_path):
    films = items(write_csv(tmp_path))
    assert films["1"]["text"] == "Toy Story (1995). Animation, Comedy. A cowboy doll."
    assert films["2"] | {"categories": None} == {
        "item_id": "2",
        "title": "The Matrix",
        "text": "The Matrix (1999). Sci-Fi. A hacker.",
        "categories": None,
        "year": 1999,
        "picture": None,
        "picture_url": None,
    }
    assert (films["3"]["text"], films["3"]["year"], films["3"]["categories"]) == ("Babylon 5.", None, [])
    assert [film["picture"] for film in films.values()] == ["posters_w128/11.jpg", None, None]


@pytest.mark.parametrize(("plots", "posters"), [(False, True), (True, False), (False, False)])
def test_plots_and_posters_may_each_be_missing(tmp_path, plots, posters):
    films = items(write_csv(tmp_path, plots, posters))
    assert films["1"]["text"].endswith("doll.") is plots
    assert (films["1"]["picture"] is not None) is posters


def test_the_folder_of_the_tables_may_be_given_itself(tmp_path):
    write_csv(tmp_path)
    films = items(tmp_path / "ml-latest-small")
    assert films["1"]["text"] == "Toy Story (1995). Animation, Comedy."


def test_bad_plots_are_named_by_line(tmp_path):
    write_csv(tmp_path)
    (tmp_path / "movies_ml1m.jsonl").write_text('{"movie_id": 1, "plot": "x", "poster": null}\n{"movie_id": 2\n[]\n')
    with pytest.raises(DataError, match=r"(?s)movies_ml1m\.jsonl.*line 2.*line 3"):
        items(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    write_atomic(tmp_path).joinpath("small.inter").write_text("user_id:token\titem_id:token\nu\ti\n")
    with pytest.raises(
        DataError, match=r"small\.inter: line 1: expected the columns user_id, item_id, rating, timestamp"
    ):
        list(MovieLens(MovieLens.Config(), tmp_path).interactions())


def test_two_candidates_are_refused(tmp_path):
    write_atomic(tmp_path).joinpath("other.inter").write_text("x")
    with pytest.raises(DataError, match=r"other\.inter, small\.inter where one file"):
        MovieLens(MovieLens.Config(), tmp_path)


def test_the_real_films_have_plots_and_posters_as_counted():
    source = MovieLens(MovieLens.Config(), real_data("movielens"))
    table = pa.Table.from_batches(source.items())
    assert table.num_rows == 9742
    assert source.counts == {
        "films_with_year": 9730,
        "films_with_genres": 9708,
        "films_with_plot": 2956,
        "films_with_poster": 2872,
        "plots_of_unknown_films": 0,
        "posters_of_unknown_films": 0,
    }
    films = {row["item_id"]: row for row in table.to_pylist()}
    assert films["1"]["text"].startswith(
        "Toy Story (1995). Adventure, Animation, Children, Comedy, Fantasy. A cowboy doll"
    )
    assert films["29"]["title"].startswith("The City of Lost Children (La Cit")
    assert films["73"]["title"] == "Les Mis\u00e9rables"
    assert all(row["text"] for row in films.values())


def test_the_real_ml100k_has_the_published_size():
    source = MovieLens(MovieLens.Config(), real_ml100k())
    events = pa.Table.from_batches(source.interactions())
    assert events.num_rows == 100_000
    assert len(events["user_id"].unique()) == 943
    films = pa.Table.from_batches(source.items()).to_pylist()
    assert len(films) == 1682
    assert films[11] == {
        "item_id": "12",
        "title": "The Usual Suspects",
        "text": "The Usual Suspects (1995). Crime, Thriller.",
        "categories": ["Crime", "Thriller"],
        "year": 1995,
        "picture": None,
        "picture_url": None,
    }
