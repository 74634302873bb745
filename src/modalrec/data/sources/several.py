"""Several datasets or categories as one: a folder of folders, each read by its own source."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from modalrec import config, plugins
from modalrec.data.archives import Archive, BadFile
from modalrec.data.names import as_names
from modalrec.data.sources import EVENT_ROWS, Source
from modalrec.errors import ConfigError, DataError, ModalrecError, Problems


class Several(Source):
    """One folder a part, such as a category of a shop or a dataset; parts share neither items nor users.

    The ids of a part's items and users get its folder's name in front, `films/17`, whichever other parts are read. What
    all parts have, the whole has: times, ratings, suggested settings. Where only some have times, these order the
    events of their part and are gone then, so that a leave-one-out split of the whole is that of each part.
    """

    class Config(config.Config):
        """Settings.

        Attributes:
            parts: From a folder's name to the settings of its source, `{name: tables, ...}`, where looking at the
                folder is not enough.
            only: The folders to read; by default all. Ids stay what they are among all.
        """

        name: Literal["several"] = "several"
        parts: dict[str, dict[str, Any]] = {}
        only: tuple[str, ...] = ()

        @field_validator("parts")
        @classmethod
        def _resolved(cls, parts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
            return {part: _resolved(part, settings) for part, settings in parts.items()}

    expects = "a folder for each of several datasets, with the files of any of the other sources"

    def __init__(self, config: Config, folder: Path) -> None:
        self.counts: dict[str, int] = {}
        self._folder = folder
        self._sources = _open(config, folder)
        sources = list(self._sources.values())
        self.has_timestamps = all(source.has_timestamps for source in sources)
        self.times_only_sort = not self.has_timestamps and any(source.has_timestamps for source in sources)
        self.has_ratings = all(source.has_ratings for source in sources)
        self.has_roles = any(source.has_roles for source in sources)
        self.per_second = max(source.per_second for source in sources)
        self.suggested = {
            name: value
            for name, value in sources[0].suggested.items()
            if all(name in source.suggested and source.suggested[name] == value for source in sources)
        }
        self.items_file = sources[0].items_file
        without = [source for source in sources if not source.has_timestamps]
        self.events_file = (without or sources)[0].events_file
        files = [path for one in sources for path in (one.items_file, one.events_file, *one.other_files)]
        named = (self.items_file, self.events_file)
        self.other_files = tuple(path for path in dict.fromkeys(files) if path not in named)

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether two folders or more of a folder look like a source each."""
        return sum(len(_fitting(part)) == 1 for part in _folders(folder).values()) > 1

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items part by part, see `Source.items`."""
        for part, source in self._sources.items():
            for batch in source.items():
                yield _prefixed(batch, part, "item_id", "picture")
            self._count(part, source)

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events part by part, see `Source.interactions`."""
        for part, source in self._sources.items():
            rows = 0
            for batch in source.interactions():
                columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                columns |= {name: as_names(columns[name]) for name in ("user_id", "item_id")}
                columns["timestamp"] = self._times(source, columns["timestamp"], rows)
                if not self.has_ratings:
                    columns["rating"] = pa.nulls(batch.num_rows, pa.float32())
                if self.has_roles and not source.has_roles:
                    columns["role"] = pa.array(np.zeros(batch.num_rows, np.int8))
                rows += batch.num_rows
                changed = pa.RecordBatch.from_arrays([columns[name] for name in EVENT_ROWS.names], schema=EVENT_ROWS)
                yield _prefixed(changed, part, "user_id", "item_id")
            self.counts[f"{part}/rows"] = rows
            self._count(part, source)

    def pictures(self) -> Archive | None:
        """The pictures of all parts, where there are any."""
        archives = {part: source.pictures() for part, source in self._sources.items()}
        given = {part: archive for part, archive in archives.items() if archive is not None}
        return _Pictures(self._folder, given) if given else None

    def _times(self, source: Source, times: pa.Array, rows: int) -> pa.Array:
        if not (self.has_timestamps or self.times_only_sort):
            return times
        if not source.has_timestamps:
            return pa.array(np.arange(rows, rows + len(times), dtype=np.int64))
        return pc.multiply(times, self.per_second // source.per_second)

    def _count(self, part: str, source: Source) -> None:
        self.counts |= {f"{part}/{name}": count for name, count in source.counts.items()}


class _Pictures(Archive):
    """The pictures of the parts, by the part's name and their own."""

    def __init__(self, folder: Path, archives: Mapping[str, Archive]) -> None:
        super().__init__(folder, ())
        self._archives = archives

    def find(self, key: str) -> str | None:
        """See `Archive.find`."""
        part, _, rest = key.partition("/")
        found = self._archives[part].find(rest) if part in self._archives else None
        return None if found is None else f"{part}/{found}"

    def read(self, name: str, max_bytes: int) -> bytes:
        """See `Archive.read`."""
        part, _, rest = name.partition("/")
        if part not in self._archives:
            raise BadFile(f"no pictures in {part}")
        return self._archives[part].read(rest, max_bytes)


def _open(config: Several.Config, folder: Path) -> dict[str, Source]:
    """The source of every part that is wanted.

    Raises:
        DataError: All that is wrong with the folders.
        ConfigError: A part is named that is not there.
    """
    there = _folders(folder)
    if not there:
        raise DataError(f"{folder}: has no folder for each of several datasets; put every dataset in one of its own")
    lost = sorted({*config.only, *config.parts} - there.keys())
    if lost:
        raise ConfigError(
            f"source: {folder} has no folder {', '.join(map(repr, lost))}; it has {', '.join(there)}; change "
            "source.only and source.parts"
        )
    found: dict[str, Source] = {}
    problems = Problems(folder)
    for part in config.only or there:
        try:
            found[part] = _source(config.parts.get(part), there[part])
        except ModalrecError as error:
            problems.add(f"{part}/", str(error))
    problems.raise_if_any("Say in source.parts how to read a folder, name those to read in source.only, or mend them")
    return {part: found[part] for part in there if part in found}


def _source(settings: Mapping[str, Any] | None, folder: Path) -> Source:
    if settings is None:
        fitting = _fitting(folder)
        if len(fitting) != 1:
            files = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
            state = f"looks like {' and '.join(fitting)}" if fitting else "looks like no known source"
            raise DataError(f"{state}; it holds {files}")
        settings = {"name": fitting[0]}
    known = plugins.discover("sources")
    source: Source = known[settings["name"]](known[settings["name"]].Config(**settings), folder)
    if source.parts:
        raise DataError(f"is split into {', '.join(source.parts)} already; ingest it alone")
    if source.has_labels or source.has_histories:
        raise DataError("has labels or histories of its own; ingest it alone")
    return source


def _resolved(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a part's source, every default written out."""
    known = {name: cls for name, cls in plugins.discover("sources").items() if cls is not Several}
    name = settings.get("name")
    if name not in known:
        raise ValueError(f"{part}.name: {name!r} is no source of a part; known: {', '.join(known)}")
    try:
        return config.dump(config.resolve(known[name].Config, settings, where=part))
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by name, in alphabetical order."""
    hidden = (".", "__MACOSX")
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(hidden)}


def _fitting(folder: Path) -> list[str]:
    """The other sources that a folder looks like."""
    known = plugins.discover("sources")
    return [name for name, cls in known.items() if cls is not Several and cls.detect(folder)]


def _prefixed(batch: pa.RecordBatch, part: str, *names: str) -> pa.RecordBatch:
    """The part's name before the values of these columns."""
    columns = [
        _behind(part, column) if name in names else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _behind(part: str, column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(column.indices, _behind(part, column.dictionary))
    return pc.binary_join_element_wise(f"{part}/", column, "")
