"""The files of MovieLens in each form that they are distributed in, from a folder or a zip."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from modalrec.data.delimited import MEND, open_binary, read_delimited, read_header
from modalrec.data.members import File, members
from modalrec.data.titles import split_year
from modalrec.errors import DataError, Problems

NO_GENRES = "(no genres listed)"
RATING = (pa.field("rating", pa.float32(), nullable=False), pa.field("timestamp", pa.int64(), nullable=False))


class Film(NamedTuple):
    """A film as a file describes it; the title without its year."""

    film: str
    title: str | None
    year: int | None
    genres: list[str]


@dataclass(frozen=True)
class Release:
    """How one form is read.

    Attributes:
        names: What the form is called, for people.
        ratings: Its file of ratings; `*` stands for a name of one's own.
        films: Its file of films.
        delimiter: Of the ratings.
        header: The columns of the ratings: user, film, rating and time.
        headed: Whether their first line names them.
        read_films: Yields the films.
        users: Its file of users, where it may have one.
        read_users: Reads user, age, gender and occupation of every user.
        tags: Its file of tags, where it may have one.
        read_tags: Reads film and tag, a row each time one was given.
    """

    names: str
    ratings: str
    films: str
    delimiter: str
    header: tuple[str, str, str, str]
    headed: bool
    read_films: Callable[[File, Mapping[str, File]], Iterator[Film]]
    users: str = ""
    read_users: Callable[[File], pa.Table] | None = None
    tags: str = ""
    read_tags: Callable[[File], pa.Table] | None = None

    def find(self, files: Mapping[str, File], pattern: str) -> list[File]:
        """The files of this name, packed or not."""
        return [
            file
            for name, file in sorted(files.items())
            if name.removesuffix(".gz") == pattern
            or (pattern.startswith("*") and name.removesuffix(".gz").endswith(pattern[1:]) and name[0] != ".")
        ]

    def fits(self, files: Mapping[str, File]) -> bool:
        """Whether a folder has the ratings and the films of this form."""
        return bool(self.find(files, self.ratings) and self.find(files, self.films))

    def read_ratings(self, file: File) -> Iterator[pa.RecordBatch]:
        """Yields user and film as numbers (as strings in the atomic form), rating and timestamp."""
        header = atomic_columns(file, *self.header) if self.ratings.startswith("*") else self.header
        kind = pa.string() if self.ratings.startswith("*") else pa.int64()
        fields = [pa.field(name, kind, nullable=False) for name in header[:2]]
        fields += [field.with_name(name) for field, name in zip(RATING, header[2:], strict=True)]
        names = () if self.headed else header
        yield from read_delimited(file, pa.schema(fields), self.delimiter, quoting=self.delimiter == ",", names=names)


def find_release(folder: Path) -> tuple[Release, Mapping[str, File]] | None:
    """The form and the files by name: of the folder itself, or of the one folder or zip in it that has them."""
    below = [_listed(path) for path in sorted(folder.iterdir()) if path.is_dir()]
    # A folder of atomic files below is one of several datasets as often as not.
    for places, known in (([_listed(folder)], RELEASES), (below, RELEASES[:-1]), (_zipped(folder), RELEASES[:-1])):
        found = [(release, files) for files in places for release in known if release.fits(files)]
        if len(found) == 1:
            return found[0]
        if found:
            return None
    return None


def atomic_columns(path: File, *names: str) -> list[str]:
    """The columns of an atomic file by name, `user_id` as `user_id:token`; `a|b` is either.

    Raises:
        DataError: One is missing.
    """
    header = read_header(path, "\t", quoting=False)
    found = {column.partition(":")[0]: column for column in header}
    columns = [next((found[name] for name in choice.split("|") if name in found), "") for choice in names]
    if not all(columns):
        raise DataError(
            f"{path}: line 1: expected the columns {', '.join(names)}, each as name:type, between tabs; "
            f"found {', '.join(header)}"
        )
    return columns


def _listed(folder: Path) -> dict[str, File]:
    return {path.name: path for path in folder.iterdir() if path.is_file()}


def _zipped(folder: Path) -> Iterator[dict[str, File]]:
    for path in sorted(folder.glob("*.zip")):
        try:
            yield from members(path).values()
        except DataError:
            if path.stem.startswith("ml-"):  # another zip may be of pictures, which are looked at elsewhere
                raise


def _csv_films(path: File, _: Mapping[str, File]) -> Iterator[Film]:
    texts = [pa.field(name, pa.string()) for name in ("title", "genres")]
    schema = pa.schema([pa.field("movieId", pa.int64(), nullable=False), *texts])
    for batch in read_delimited(path, schema):
        for film, title, genres in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield _film(str(film), title, genres)


def _dat_films(path: File, _: Mapping[str, File]) -> Iterator[Film]:
    for film, title, genres in _cells(path, "::", 3):
        yield _film(film, title, genres)


def _data_films(path: File, files: Mapping[str, File]) -> Iterator[Film]:
    named = files.get("u.genre")
    if named is None:
        raise DataError(f"{path}: names genres by place, and no u.genre beside it says which they are; fetch it again")
    genres = [name for name, _ in _cells(named, "|", 2)]
    for film, raw, *rest in _cells(path, "|", 5 + len(genres)):
        title, year = split_year(raw)
        names = [name for name, flag in zip(genres, rest[3:], strict=True) if flag == "1" and name != "unknown"]
        yield Film(film, title or None, year, names)


def _atomic_films(path: File, _: Mapping[str, File]) -> Iterator[Film]:
    key, *texts = atomic_columns(path, "item_id", "movie_title", "release_year", "class|genre")
    schema = pa.schema([pa.field(key, pa.string(), nullable=False), *((name, pa.string()) for name in texts)])
    for batch in read_delimited(path, schema, "\t", quoting=False):
        for film, title, year, names in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Film(film, title, int(year) if year and year.isdecimal() else None, (names or "").split())


def _film(film: str, raw: str | None, genres: str | None) -> Film:
    title, year = split_year(raw or "")
    return Film(film, title or None, year, [] if genres in (None, "", NO_GENRES) else str(genres).split("|"))


def _csv_tags(path: File) -> pa.Table:
    schema = pa.schema([pa.field("movieId", pa.int64(), nullable=False), ("tag", pa.string())])
    table = pa.Table.from_batches(read_delimited(path, schema), schema)
    return pa.table({"film": table["movieId"].cast(pa.string()), "tag": table["tag"]})


def _dat_tags(path: File) -> pa.Table:
    rows = list(_cells(path, "::", 4))
    return pa.table({"film": pa.array([row[1] for row in rows]), "tag": pa.array([row[2] for row in rows])})


def _dat_users(path: File) -> pa.Table:
    return _users(_cells(path, "::", 5), ("user", "gender", "age", "occupation"))


def _data_users(path: File) -> pa.Table:
    return _users(_cells(path, "|", 5), ("user", "age", "gender", "occupation"))


def _atomic_users(path: File) -> pa.Table:
    header = atomic_columns(path, "user_id", "age", "gender", "occupation")
    schema = pa.schema([(name, pa.string()) for name in header])
    rows = pa.Table.from_batches(read_delimited(path, schema, "\t", quoting=False)).rename_columns(
        ["user", "age", "gender", "occupation"]
    )
    return rows.combine_chunks()


def _users(rows: Iterator[list[str]], names: tuple[str, ...]) -> pa.Table:
    columns: Any = zip(*(row[: len(names)] for row in rows), strict=True)
    return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=True)})


def _cells(path: File, separator: str, count: int) -> Iterator[list[str]]:
    """The cells of every line of a small file in UTF-8, or in Latin-1 as the older releases are.

    Raises:
        DataError: Lines have another number of cells, or an empty first one; all of them in one error.
    """
    with open_binary(path) as file:
        raw = file.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    problems = Problems(path)
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(separator)]
        if len(cells) != count:
            problems.add(f"line {number}", f"{len(cells)} cells between {separator}, expected {count}")
        elif not cells[0].isdecimal() and separator == "::":
            problems.add(f"line {number}", f"{cells[0]!r} is not a number")
        rows.append(cells)
    problems.raise_if_any(MEND)
    if not rows:
        raise DataError(f"{path}: has no rows; fetch it again")
    yield from rows


RELEASES = (
    Release(
        "CSV (small, 20M, 25M, 32M)", "ratings.csv", "movies.csv", ",", ("userId", "movieId", "rating", "timestamp"),
        True, _csv_films, tags="tags.csv", read_tags=_csv_tags,
    ),
    Release(
        "1M and 10M", "ratings.dat", "movies.dat", "::", ("user", "film", "rating", "timestamp"), False, _dat_films,
        "users.dat", _dat_users, "tags.dat", _dat_tags,
    ),
    Release(
        "100K", "u.data", "u.item", "\t", ("user", "film", "rating", "timestamp"), False, _data_films, "u.user",
        _data_users,
    ),
    Release(
        "atomic files", "*.inter", "*.item", "\t", ("user_id", "item_id", "rating", "timestamp"), True, _atomic_films,
        "*.user", _atomic_users,
    ),
)  # fmt: skip
