"""MovieLens: RecBole's atomic files (ml-100k), or GroupLens's CSV files with plots and posters beside them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from modalrec import config
from modalrec.data.archives import Archive, open_archive
from modalrec.data.delimited import MEND, open_binary, read_delimited, read_header
from modalrec.data.sources import ITEM_ROWS, Source, event_batch, find_file, has_file, item_batch
from modalrec.data.sources._features import BAG, CATEGORY, age_group, feature_table
from modalrec.data.titles import article_first, compose_text, split_year
from modalrec.errors import DataError, Problems

RATINGS, MOVIES, TAGS = "ratings.csv", "movies.csv", "tags.csv"
POSTER_MAP, PLOTS, POSTERS = "poster_map.csv", "movies_ml1m.jsonl", "posters_w128.zip"
NO_GENRES = "(no genres listed)"


class MovieLens(Source):
    """Films and their ratings.

    The CSV form may lie in the folder itself or in a folder below, as `ml-latest-small/`; then plots
    (`movies_ml1m.jsonl`) and posters (`posters_w128.zip`) beside it are joined through `poster_map.csv`. Films without
    a plot are described by title, year and genres.
    """

    class Config(config.Config):
        """Nothing to set."""

        name: Literal["movielens"] = "movielens"

    expects = (
        f"NAME.inter and NAME.item (atomic files), or {RATINGS} and {MOVIES}, themselves or in a folder "
        f"ml-latest-small beside {PLOTS} and {POSTERS}"
    )
    has_timestamps = True
    has_ratings = True

    def __init__(self, config: Config, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self.folder = folder
        self.atomic = _atomic(folder)
        if self.atomic:
            self.items_file = find_file(folder, ["*.item"], "films")
            self.events_file = find_file(folder, ["*.inter"], "ratings")
            return
        tables = _tables(folder)
        if tables is None:
            raise DataError(f"{folder}: no MovieLens data; expected {self.expects}")
        self.items_file = find_file(tables, [MOVIES], "films")
        self.events_file = find_file(tables, [RATINGS], "ratings")
        self._map = tables / POSTER_MAP
        extras = (self._map, folder / PLOTS, folder / POSTERS)
        self.other_files = tuple(path for path in extras if self._map.is_file() and path.is_file())

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like MovieLens."""
        return _atomic(folder) or _tables(folder) is not None

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the films, see `Source.items`."""
        yield from self._atomic_items() if self.atomic else self._csv_items()

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the ratings, see `Source.interactions`."""
        if self.atomic:
            names = _columns(self.events_file, "user_id", "item_id", "rating", "timestamp")
        else:
            names = ["userId", "movieId", "rating", "timestamp"]
        types = [pa.string(), pa.string(), pa.float32(), pa.int64()]
        schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in zip(names, types, strict=True)])
        delimiter = "\t" if self.atomic else ","
        for batch in read_delimited(self.events_file, schema, delimiter, quoting=not self.atomic):
            user, item, rating, timestamp = batch.columns
            yield event_batch(user, item, timestamp, rating)

    def item_features(self) -> pa.Table:
        """Genres, year, and the tags where users gave any, see `Source.item_features`."""
        films = pa.Table.from_batches(self.items(), ITEM_ROWS)
        ids = films["item_id"].to_pylist()
        years = films["year"].cast(pa.string()).to_pylist()
        columns = {"genres": (BAG, films["categories"].to_pylist()), "year": (CATEGORY, years)}
        if not self.atomic and (tags := self.items_file.with_name(TAGS)).is_file():
            given = _read_tags(tags)
            columns["tags"] = (BAG, [given.get(film, []) for film in ids])
        return feature_table(ids, columns)

    def user_features(self) -> pa.Table | None:
        """Age group, gender and occupation, where they are told, see `Source.user_features`."""
        if not self.atomic or not has_file(self.folder, "*.user"):
            return None
        path = find_file(self.folder, ["*.user"], "users")
        key, *names = _columns(path, "user_id", "age", "gender", "occupation")
        schema = pa.schema([(key, pa.string()), (names[0], pa.int32()), *((name, pa.string()) for name in names[1:])])
        users, ages, genders, occupations = (
            column.to_pylist() for column in pa.Table.from_batches(read_delimited(path, schema, "\t", quoting=False))
        )
        return feature_table(
            users,
            {
                "age": (CATEGORY, map(age_group, ages)),
                "gender": (CATEGORY, genders),
                "occupation": (CATEGORY, occupations),
            },
        )

    def pictures(self) -> Archive | None:
        """The posters, where the folder has them."""
        found = [path for path in self.other_files if path.name == POSTERS]
        return open_archive(found[0]) if found else None

    def _atomic_items(self) -> Iterator[pa.RecordBatch]:
        key, *texts = _columns(self.items_file, "item_id", "movie_title", "release_year", "class|genre")
        schema = pa.schema(
            [pa.field(key, pa.string(), nullable=False), *(pa.field(name, pa.string()) for name in texts)]
        )
        for batch in read_delimited(self.items_file, schema, "\t", quoting=False):
            yield item_batch(
                [
                    _film(film, title, int(year) if year and year.isdecimal() else None, (names or "").split(), None)
                    for film, title, year, names in zip(*(column.to_pylist() for column in batch.columns), strict=True)
                ]
            )

    def _csv_items(self) -> Iterator[pa.RecordBatch]:
        plots, posters = self._extras()
        self.counts = {"films_with_plot": 0, "films_with_poster": 0}
        schema = pa.schema(
            [
                pa.field("movieId", pa.string(), nullable=False),
                pa.field("title", pa.string()),
                pa.field("genres", pa.string()),
            ]
        )
        for batch in read_delimited(self.items_file, schema):
            rows = []
            for film, raw, genres in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                title, year = split_year(raw or "")
                names = [] if genres in (None, NO_GENRES) else genres.split("|")
                rows.append(_film(film, title or None, year, names, plots.get(film)) | {"picture": posters.get(film)})
                self.counts["films_with_plot"] += film in plots
                self.counts["films_with_poster"] += film in posters
            yield item_batch(rows)

    def _extras(self) -> tuple[dict[str, str], dict[str, str]]:
        """Plots and poster names by film."""
        found = {path.name for path in self.other_files}
        if not found & {PLOTS, POSTERS}:
            return {}, {}
        schema = pa.schema([pa.field("movieId", pa.string(), nullable=False), pa.field("ml1m_id", pa.string())])
        details = _read_plots(self.folder / PLOTS) if PLOTS in found else None
        plots, posters = {}, {}
        archive = self.pictures()
        for batch in read_delimited(self._map, schema):
            for film, key in zip(batch.column("movieId").to_pylist(), batch.column("ml1m_id").to_pylist(), strict=True):
                plot, poster = (details or {}).get(key, (None, None))
                if details is None and archive and key:
                    poster = archive.find(key)
                if plot:
                    plots[film] = plot
                if poster and archive:
                    posters[film] = poster
        return plots, posters


def _film(film: str, title: str | None, year: int | None, genres: list[str], plot: str | None) -> dict[str, Any]:
    title = article_first(title) if title else None
    text = compose_text(title, year, genres, plot)
    return {"item_id": film, "title": title, "text": text, "categories": genres, "year": year}


def _read_plots(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Plot and poster by film number, from one JSON object a line."""
    problems = Problems(path)
    details = {}
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                film = json.loads(line)
                details[str(film["movie_id"])] = (_text(film["plot"]), _text(film["poster"]))
            except (ValueError, KeyError, TypeError) as error:
                problems.add(f"line {number}", f"not an object with movie_id, plot and poster ({error})")
    problems.raise_if_any(MEND)
    return details


def _read_tags(path: Path) -> dict[str, list[str]]:
    """The tags of every film, in lower case, each once, in the order in which they were first given."""
    schema = pa.schema([pa.field("movieId", pa.string(), nullable=False), pa.field("tag", pa.string())])
    found: dict[str, dict[str, None]] = {}
    for batch in read_delimited(path, schema):
        for film, tag in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if tag:
                found.setdefault(film, {})[" ".join(tag.lower().split())] = None
    return {film: list(tags) for film, tags in found.items()}


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _columns(path: Path, *names: str) -> list[str]:
    """The columns of an atomic file by name, `user_id` as `user_id:token`; `a|b` is either."""
    header = read_header(path, "\t", quoting=False)
    found = {column.partition(":")[0]: column for column in header}
    columns = [next((found[name] for name in choice.split("|") if name in found), "") for choice in names]
    if not all(columns):
        raise DataError(
            f"{path}: line 1: expected the columns {', '.join(names)}, each as name:type, between tabs; "
            f"found {', '.join(header)}"
        )
    return columns


def _atomic(folder: Path) -> bool:
    return has_file(folder, "*.inter") and has_file(folder, "*.item")


def _tables(folder: Path) -> Path | None:
    """The folder of the CSV files: the given one, or the only one below it that has them."""
    below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
    found = [path for path in (folder, *below) if has_file(path, RATINGS) and has_file(path, MOVIES)]
    return found[0] if found[:1] == [folder] or len(found) == 1 else None
