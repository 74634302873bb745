"""What others add to MovieLens: posters and summaries of films, beside the ratings or in the folder above."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from modalrec.data.archives import Archive, is_inside, open_archive
from modalrec.data.delimited import MEND, open_binary, read_delimited
from modalrec.data.members import File
from modalrec.errors import DataError, Problems

POSTER_MAP, PLOTS, MAPPED_POSTERS = "poster_map.csv", "movies_ml1m.jsonl", "posters_w128.zip"
POSTERS = "posters.csv"
SUMMARIES = ("summaries.csv", "summaries.jsonl")
PICTURES = ("posters", "posters.zip", "posters.rar", "images", "images.zip", "images.rar")


@dataclass
class Extras:
    """Texts and posters by film.

    Attributes:
        files: The files that they come from.
        plots: What a film is about.
        posters: The name of a film's poster in `archive`.
        urls: Where it could be fetched.
        archive: The posters.
    """

    files: list[Path] = field(default_factory=list)
    plots: dict[str, str] = field(default_factory=dict)
    posters: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    archive: Archive | None = None


def find_extras(folder: Path, release: Mapping[str, File]) -> Extras:
    """Finds the files and opens the posters; `read_extras` reads the rest."""
    extras = Extras()
    beside = {name: file for name, file in release.items() if isinstance(file, Path)}
    above = {path.name: path for path in folder.iterdir()}
    there = {**above, **beside}
    if POSTER_MAP in beside:
        extras.files += [there[name] for name in (POSTER_MAP, PLOTS, MAPPED_POSTERS) if name in there]
        pictures = [MAPPED_POSTERS]
    else:
        extras.files += [there[name] for name in (POSTERS, *SUMMARIES) if name in there]
        pictures = list(PICTURES)
    twice = [path for path in extras.files if path.name in SUMMARIES]
    if len(twice) > 1:
        raise DataError(f"{folder}: has {' and '.join(path.name for path in twice)}; keep one of them")
    places = [parent / name for parent in _folders(folder, beside) for name in pictures if (parent / name).exists()]
    if places:
        extras.archive = open_archive(places[0])
        if places[0].is_file() and places[0] not in extras.files:
            extras.files.append(places[0])
    return extras


def read_extras(extras: Extras) -> None:
    """Fills in texts and posters.

    Raises:
        DataError: A file is malformed; all its problems in one error.
    """
    by_name = {path.name: path for path in extras.files}
    if POSTER_MAP in by_name:
        _read_mapped(extras, by_name)
    for name in SUMMARIES:
        if name in by_name:
            extras.plots.update(_read_summaries(by_name[name]))
    if POSTERS in by_name:
        _read_posters(extras, by_name[POSTERS])


def _folders(folder: Path, beside: Mapping[str, Path]) -> list[Path]:
    return list(dict.fromkeys([folder, *(path.parent for path in beside.values())]))


def _read_mapped(extras: Extras, by_name: Mapping[str, Path]) -> None:
    """Plots and posters that are named by the numbers of MovieLens-1M."""
    schema = pa.schema([pa.field("movieId", pa.string(), nullable=False), pa.field("ml1m_id", pa.string())])
    details = _read_plots(by_name[PLOTS]) if PLOTS in by_name else None
    archive = extras.archive
    for batch in read_delimited(by_name[POSTER_MAP], schema):
        for film, key in zip(batch.column("movieId").to_pylist(), batch.column("ml1m_id").to_pylist(), strict=True):
            plot, poster = (details or {}).get(key, (None, None))
            if details is None and archive and key:
                poster = archive.find(key)
            if plot:
                extras.plots[film] = plot
            if poster and archive:
                extras.posters[film] = poster


def _read_plots(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Plot and poster by film number, from one JSON object a line."""
    problems = Problems(path)
    details = {}
    for number, film in _objects(path, problems):
        try:
            details[str(film["movie_id"])] = (_text(film["plot"]), _text(film["poster"]))
        except (KeyError, TypeError) as error:
            problems.add(f"line {number}", f"not an object with movie_id, plot and poster ({error})")
    problems.raise_if_any(MEND)
    return details


def _read_summaries(path: Path) -> dict[str, str]:
    """A film's summary, from CSV or from JSON lines, of movieId and summary."""
    problems = Problems(path)
    found: dict[str, str] = {}
    if path.suffix == ".csv":
        schema = pa.schema([pa.field("movieId", pa.int64(), nullable=False), pa.field("summary", pa.string())])
        rows = (row for batch in read_delimited(path, schema) for row in batch.to_pylist())
        numbered: Any = ((f"row {number}", row) for number, row in enumerate(rows, start=1))
    else:
        numbered = ((f"line {number}", row) for number, row in _objects(path, problems))
    for where, row in numbered:
        try:
            film, summary = str(int(row["movieId"])), _text(row["summary"])
        except (KeyError, TypeError, ValueError) as error:
            problems.add(where, f"not an object with movieId and summary ({error})")
            continue
        if film in found:
            problems.add(where, f"film {film} has a summary already")
        found[film] = summary or ""
    problems.raise_if_any(MEND)
    return {film: summary for film, summary in found.items() if summary}


def _read_posters(extras: Extras, path: Path) -> None:
    """Names as they are in the folder or zip, with or without a slash in front, or addresses."""
    schema = pa.schema([pa.field("movieId", pa.int64(), nullable=False), pa.field("poster_path", pa.string())])
    problems = Problems(path)
    seen: set[int] = set()
    rows = (row for batch in read_delimited(path, schema) for row in batch.to_pylist())
    for number, row in enumerate(rows, start=1):
        film, name = row["movieId"], row["poster_path"]
        if film in seen:
            problems.add(f"row {number}", f"film {film} has a poster already")
        seen.add(film)
        if name and name.startswith(("http://", "https://")):
            extras.urls[str(film)] = name
        elif name and not is_inside(name.removeprefix("/")):
            problems.add(f"row {number}, poster_path", f"{name!r} leads out of the folder of posters")
        elif name and extras.archive:
            name = name.removeprefix("/")
            extras.posters[str(film)] = extras.archive.find(name) or name
        elif name:
            problems.add(f"row {number}, poster_path", f"{name!r}: no folder or zip `posters` is there to look into")
    problems.raise_if_any(MEND)


def _objects(path: Path, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON object of every line that has one, by number."""
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.add(f"line {number}", f"is not JSON ({error})")
                continue
            if isinstance(found, dict):
                yield number, found
            else:
                problems.add(f"line {number}", f"is no object: {line[:40]!r}")


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
