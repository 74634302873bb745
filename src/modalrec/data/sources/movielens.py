"""MovieLens as GroupLens distributes it (100K, 1M, 10M, 20M, 25M, 32M, small), or in RecBole's atomic files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from modalrec import config
from modalrec.data.archives import Archive
from modalrec.data.members import File, Member
from modalrec.data.sources import ITEM_ROWS, Source, event_batch
from modalrec.data.sources._features import BAG, CATEGORY, age_group, feature_table
from modalrec.data.sources._movielens_extras import find_extras, read_extras
from modalrec.data.sources._movielens_releases import Film, find_release
from modalrec.data.titles import article_first, compose_text
from modalrec.errors import DataError

ITEM_ROWS_AT_A_TIME = 10_000


class MovieLens(Source):
    """Films and their ratings, from files in the folder itself, in a folder below, or in the zip that was fetched.

    Beside them may lie `summaries.csv` (movieId, summary) or `summaries.jsonl`, and `posters.csv` (movieId,
    poster_path) with a folder or zip `posters`. Films without a summary are described by title, year and genres. Tags
    and the ages, genders and occupations of users are features, where a release has them; a tag counts whenever it was
    given, also after the ratings that are to be predicted.
    """

    class Config(config.Config):
        """Settings.

        Attributes:
            tags: Take the tags over as a feature of films.
        """

        name: Literal["movielens"] = "movielens"
        tags: bool = True

    expects = (
        "ratings.csv and movies.csv, or ratings.dat and movies.dat, or u.data and u.item, or NAME.inter and NAME.item, "
        "themselves, in a folder below or in a zip"
    )
    has_timestamps = True
    has_ratings = True

    def __init__(self, config: Config, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self._folder = folder
        self._known: list[Film] | None = None
        found = find_release(folder)
        if found is None:
            raise DataError(f"{folder}: no MovieLens data, or several; expected {self.expects}")
        self._release, self._files = found
        self._films = self._only(self._release.films, "films")
        self._ratings = self._only(self._release.ratings, "ratings")
        self._tags = self._optional(self._release.tags) if config.tags else None
        self._users = self._optional(self._release.users)
        self._extras = find_extras(folder, self._files)
        used = [file for file in (self._films, self._ratings, self._tags, self._users) if file is not None]
        self.items_file, self.events_file = _on_disk(self._films), _on_disk(self._ratings)
        self.other_files = tuple(dict.fromkeys([*map(_on_disk, used), *self._extras.files]))

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder looks like MovieLens."""
        return find_release(folder) is not None

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the films, see `Source.items`."""
        extras, films = self._extras, self._described()
        read_extras(extras)
        ids = [film.film for film in films]
        plots, posters = list(map(extras.plots.get, ids)), list(map(extras.posters.get, ids))
        urls = list(map(extras.urls.get, ids))
        self.counts = {
            "films_with_year": sum(film.year is not None for film in films),
            "films_with_genres": sum(bool(film.genres) for film in films),
            "films_with_plot": sum(plot is not None for plot in plots),
            "films_with_poster": sum(pair != (None, None) for pair in zip(posters, urls, strict=True)),
            "plots_of_unknown_films": len({*extras.plots}.difference(ids)),
            "posters_of_unknown_films": len({*extras.posters, *extras.urls}.difference(ids)),
        }
        for begin in range(0, len(films), ITEM_ROWS_AT_A_TIME):
            part = slice(begin, begin + ITEM_ROWS_AT_A_TIME)
            titles = [article_first(film.title) if film.title else None for film in films[part]]
            described = zip(titles, films[part], plots[part], strict=True)
            columns = {
                "item_id": ids[part],
                "title": titles,
                "text": [compose_text(title, film.year, film.genres, plot) for title, film, plot in described],
                "categories": [film.genres for film in films[part]],
                "year": [film.year for film in films[part]],
                "picture": posters[part],
                "picture_url": urls[part],
            }
            yield pa.RecordBatch.from_pydict(columns, schema=ITEM_ROWS)

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the ratings, see `Source.interactions`."""
        for batch in self._release.read_ratings(self._ratings):
            users, films, ratings, timestamps = batch.columns
            yield event_batch(users, films, timestamps, ratings)

    def item_features(self) -> pa.Table:
        """Genres, year, and tags where users gave any, see `Source.item_features`."""
        films = self._described()
        ids = [film.film for film in films]
        years = [None if film.year is None else str(film.year) for film in films]
        columns: dict[str, tuple[pa.DataType, Any]] = {
            "genres": (BAG, [film.genres for film in films]),
            "year": (CATEGORY, years),
        }
        if self._tags is not None and self._release.read_tags is not None:
            given = _distinct_tags(self._release.read_tags(self._tags))
            columns["tags"] = (BAG, given["tags"].take(pc.index_in(pa.array(ids), given["film"].combine_chunks())))
        return feature_table(ids, columns)

    def user_features(self) -> pa.Table | None:
        """Age group, gender and occupation, where they are told, see `Source.user_features`."""
        if self._users is None or self._release.read_users is None:
            return None
        users = self._release.read_users(self._users)
        ages = [age_group(int(age)) if age and age.isdecimal() else None for age in users["age"].to_pylist()]
        told = {name: (CATEGORY, users[name]) for name in ("gender", "occupation")}
        return feature_table(users["user"], {"age": (CATEGORY, ages), **told})

    def pictures(self) -> Archive | None:
        """The posters, where there are any."""
        return self._extras.archive

    def _described(self) -> list[Film]:
        """The films, read once: they are few beside the ratings."""
        if self._known is None:
            self._known = list(self._release.read_films(self._films, self._files))
        return self._known

    def _only(self, pattern: str, what: str) -> File:
        found = self._release.find(self._files, pattern)
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise DataError(f"{self._folder}: has {names} where one file of {what} is expected; keep one of them")
        return found[0]

    def _optional(self, pattern: str) -> File | None:
        found = self._release.find(self._files, pattern) if pattern else []
        return found[0] if found else None


def _on_disk(file: File) -> Path:
    return file.archive if isinstance(file, Member) else file


def _distinct_tags(given: pa.Table) -> pa.Table:
    """The tags of every film, each once: in lower case and with single blanks, since people type them."""
    tags = pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(given["tag"]), r"\s+", " "))
    table = pa.table({"film": given["film"], "tag": tags})
    table = table.filter(pc.greater(pc.fill_null(pc.utf8_length(tags), 0), 0))
    once = table.group_by(["film", "tag"], use_threads=False).aggregate([])
    return once.group_by("film", use_threads=False).aggregate([("tag", "list")]).rename_columns(["film", "tags"])
