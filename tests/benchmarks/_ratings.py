"""Made-up ratings in the files and the size of MovieLens-25M: nothing of them is real."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

RATINGS, USERS, FILMS, LAST_FILM = 25_000_095, 162_541, 62_423, 209_171
"""As GroupLens counts MovieLens-25M: a user has 20 ratings or more; films are numbered with gaps."""
FIRST, LAST = 789_652_009, 1_574_327_703
"""Seconds of its first and last rating."""
GENRES = ("Drama", "Comedy", "Thriller", "Romance", "Action", "Horror", "Documentary", "Crime", "Sci-Fi", "Children")
CHUNK = 5_000


def write_ratings(folder: Path, ratings: int = RATINGS, seed: int = 0) -> Path:
    """Writes ratings.csv, by user and film as the real one, and movies.csv; fewer ratings are of fewer users."""
    rng = np.random.default_rng(seed)
    users = max(1, round(USERS * ratings / RATINGS))
    films = np.sort(rng.choice(LAST_FILM, FILMS, replace=False)) + 1
    heights = np.cumsum(rng.permutation(1 / np.arange(10, FILMS + 10)))
    lengths = _lengths(rng, users, ratings)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "movies.csv").open("w", encoding="utf-8") as file:
        file.write("movieId,title,genres\n")
        genres = rng.choice(GENRES, (FILMS, 2))
        file.writelines(
            f'{film},"Made-up film {film}, The ({1920 + film % 100})",{"|".join(sorted(set(pair)))}\n'
            for film, pair in zip(films, genres, strict=True)
        )
    marks = pa.array([f"{half / 2:.1f}" for half in range(1, 11)])
    schema = pa.schema(
        [("userId", pa.int64()), ("movieId", pa.int64()), ("rating", pa.string()), ("timestamp", pa.int64())]
    )
    options = pacsv.WriteOptions(include_header=False, quoting_style="none")
    with (folder / "ratings.csv").open("wb") as file, pacsv.CSVWriter(file, schema, write_options=options) as writer:
        file.write(b"userId,movieId,rating,timestamp\n")
        for begin in range(0, users, CHUNK):
            counts = lengths[begin : begin + CHUNK]
            owners = np.repeat(np.arange(len(counts)), counts)
            drawn = np.minimum(np.searchsorted(heights, rng.random(len(owners)) * heights[-1]), FILMS - 1)
            order = np.lexsort((drawn, owners))
            start = rng.integers(FIRST, LAST - 40_000, len(counts))
            # Ratings come in bursts: many of a user share a second.
            times = start[owners] + np.minimum(rng.exponential(9_000, len(owners)).astype(np.int64) // 7 * 7, 40_000)
            notes = np.clip(rng.normal(6.6, 2.1, len(owners)).round(), 1, 10).astype(np.int64) - 1
            columns = [owners + begin + 1, films[drawn][order], marks.take(pa.array(notes)), times]
            writer.write_table(pa.table(columns, schema=schema))
    return folder


def _lengths(rng: np.random.Generator, users: int, ratings: int) -> NDArray[np.int64]:
    """Ratings of each user: 20 or more, a few with thousands, in all as many as asked for."""
    weights = rng.lognormal(0, 1.4, users)
    lengths = 20 + (weights / weights.sum() * (ratings - 20 * users)).astype(np.int64)
    lengths[: ratings - lengths.sum()] += 1
    return lengths
