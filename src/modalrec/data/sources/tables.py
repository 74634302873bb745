"""Bring your own data: a table of items and one of interactions, as parquet or CSV, with pictures beside them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from modalrec import config
from modalrec.data.archives import Archive, is_inside
from modalrec.data.delimited import read_delimited, read_header
from modalrec.data.sources import Source, event_batch, find_file, find_pictures, has_file, item_batch
from modalrec.data.titles import compose_text
from modalrec.errors import ConfigError, DataError, Problems

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LATEST = 10**11
"""Seconds since 1970 at the year 5138: larger ones are in another unit."""


class ItemColumns(config.Config):
    """The columns of the items table by meaning; all but `item_id` may be missing under their default names."""

    item_id: str = "item_id"
    title: str = "title"
    text: str = "text"
    categories: str = "categories"
    year: str = "year"
    image: str = "image"


class EventColumns(config.Config):
    """The columns of the interactions table; `timestamp` and `rating` may be missing under their default names."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    timestamp: str = "timestamp"
    rating: str = "rating"


class Tables(Source):
    """Items and interactions from tables of the user's own."""

    class Config(config.Config):
        """Settings.

        Attributes:
            items: File of the items; by default the one named `items` with a known suffix.
            interactions: File of the interactions; by default the one named `interactions`.
            item_columns: Column names of the items.
            event_columns: Column names of the interactions.
            timestamp_unit: Of timestamps that are numbers; parquet timestamps know theirs.
            category_separator: Between the categories in one cell.
            images: Folder or zip in the source folder; by default `images` or `images.zip` where there is one. A
                picture is found by the `image` column, else by the item's id.
        """

        name: Literal["tables"] = "tables"
        items: str | None = None
        interactions: str | None = None
        item_columns: ItemColumns = ItemColumns()
        event_columns: EventColumns = EventColumns()
        timestamp_unit: Literal["s", "ms", "us", "ns"] = "s"
        category_separator: str = "|"
        images: str | None = None

    expects = "items and interactions, each .parquet, .csv or .tsv (.gz), and perhaps images/ or images.zip"

    def __init__(self, config: Config, folder: Path) -> None:
        self.config = config
        self.counts: dict[str, int] = {}
        self.items_file = _file(folder, config.items, "items")
        self.events_file = _file(folder, config.interactions, "interactions")
        self._items = _columns(self.items_file, config.item_columns, ["item_id"])
        self._events = _columns(self.events_file, config.event_columns, ["user_id", "item_id"])
        kind = _kind(self.events_file, self._events.get("timestamp"))
        self._per_second = 1 if kind and pa.types.is_temporal(kind) else PER_SECOND[config.timestamp_unit]
        self.has_timestamps = "timestamp" in self._events
        self.has_ratings = "rating" in self._events
        self._pictures = find_pictures(folder, config.images)
        if self._pictures and self._pictures.path.is_file():
            self.other_files = (self._pictures.path,)

    @classmethod
    def detect(cls, folder: Path) -> bool:
        """Whether a folder has both tables."""
        return all(has_file(folder, *(name + end for end in SUFFIXES)) for name in ("items", "interactions"))

    def items(self) -> Iterator[pa.RecordBatch]:
        """Yields the items, see `Source.items`."""
        types = {name: pa.string() for name in self._items} | {"year": pa.int32()}
        kind = _kind(self.items_file, self._items.get("categories"))
        if kind and pa.types.is_nested(kind):
            types["categories"] = pa.list_(pa.string())
        problems = Problems(self.items_file)
        row = 0
        for batch in self._read(self.items_file, self._items, types, ["item_id"]):
            rows = []
            for values in batch.to_pylist():
                row += 1
                rows.append(self._row(values, row, problems))
            yield item_batch(rows)
        problems.raise_if_any("Name pictures as they are named in the folder or zip of pictures")

    def interactions(self) -> Iterator[pa.RecordBatch]:
        """Yields the events, see `Source.interactions`."""
        types = {"user_id": pa.string(), "item_id": pa.string(), "timestamp": pa.float64(), "rating": pa.float32()}
        filled = ["user_id", "item_id", "timestamp"]
        problems = Problems(self.events_file)
        row = 0
        for batch in self._read(self.events_file, self._events, types, filled):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            timestamps = columns.get("timestamp")
            if timestamps is not None:
                timestamps = pc.floor(pc.divide(timestamps, self._per_second))
                late = pc.greater(pc.abs(timestamps), LATEST).to_numpy(zero_copy_only=False)
                problems.extend(
                    [f"row {row + place + 1}, {self._events['timestamp']}" for place in late.nonzero()[0].tolist()],
                    f"is after the year 5000 when read in {self.config.timestamp_unit}",
                )
                timestamps = None if len(problems) else timestamps.cast(pa.int64())
            row += batch.num_rows
            if not len(problems):
                yield event_batch(columns["user_id"], columns["item_id"], timestamps, columns.get("rating"))
        problems.raise_if_any("Set timestamp_unit to ms, us or ns, or mend the times")

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._pictures

    def _row(self, values: dict[str, Any], row: int, problems: Problems) -> dict[str, Any]:
        item, title, year = values["item_id"], values.get("title"), values.get("year")
        categories = values.get("categories") or []
        if isinstance(categories, str):
            categories = categories.split(self.config.category_separator)
        names = [name.strip() for name in categories if name and name.strip()]
        picture = values.get("image")
        if picture and not is_inside(picture):
            problems.add(f"row {row}, {self._items['image']}", f"{picture!r} leads out of the folder of pictures")
        elif self._pictures:
            picture = (self._pictures.find(picture) or picture) if picture else self._pictures.find(item)
        return {
            "item_id": item,
            "title": title,
            "text": compose_text(title, year, names, values.get("text")),
            "categories": names,
            "year": year,
            "picture": picture,
        }

    def _read(
        self, path: Path, columns: dict[str, str], types: dict[str, pa.DataType], filled: list[str]
    ) -> Iterator[pa.RecordBatch]:
        """The columns of a table, named by meaning."""
        schema = pa.schema([pa.field(columns[name], types[name], nullable=name not in filled) for name in columns])
        if path.suffix == ".parquet":
            batches = _read_parquet(path, schema)
        else:
            batches = read_delimited(path, schema, _delimiter(path))
        for batch in batches:
            yield pa.RecordBatch.from_arrays(batch.columns, names=list(columns))


def _file(folder: Path, named: str | None, name: str) -> Path:
    if named is None:
        return find_file(folder, [f"{name}{suffix}" for suffix in (".parquet", ".csv", ".tsv")], name)
    if not is_inside(named) or not named.endswith(SUFFIXES):
        raise ConfigError(f"{name}: {named!r} is not a file in the source folder that ends in {', '.join(SUFFIXES)}")
    return folder / named


def _columns(path: Path, names: config.Config, needed: list[str]) -> dict[str, str]:
    """The columns that the file has, by meaning."""
    header = _parquet(path).schema_arrow.names if path.suffix == ".parquet" else read_header(path, _delimiter(path))
    columns: dict[str, str] = dict(names)
    problems = Problems(path)
    for meaning, column in columns.items():
        if column not in header and (meaning in needed or column != meaning):
            problems.add("", f"no column {column!r} for {meaning}")
    problems.raise_if_any(f"It has {', '.join(header)}; set item_columns or event_columns of the source")
    return {meaning: column for meaning, column in columns.items() if column in header}


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes else ","


def _parquet(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds it")
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is no complete parquet file ({error}); fetch it again") from None


def _read_parquet(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    problems = Problems(path)
    row = 0
    with _parquet(path) as file:
        try:
            for batch in file.iter_batches(columns=schema.names):
                columns = [_cast(batch.column(field.name), field) for field in schema]
                for field, column in zip(schema, columns, strict=True):
                    bad = pc.is_null(column, nan_is_null=True)
                    if not field.nullable and pc.any(bad, min_count=0).as_py():
                        places = bad.to_numpy(zero_copy_only=False).nonzero()[0].tolist()
                        problems.extend([f"row {row + place + 1}, {field.name}" for place in places], "is empty")
                row += batch.num_rows
                if not len(problems):
                    yield pa.RecordBatch.from_arrays(columns, names=schema.names)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(f"{path}: after row {row}: {error}. Write the file again") from None
    problems.raise_if_any("Fill or drop these rows")
    if row == 0:
        raise DataError(f"{path}: has no rows; write the file again")


def _kind(path: Path, column: str | None) -> pa.DataType | None:
    """The type of a parquet column."""
    return _parquet(path).schema_arrow.field(column).type if column and path.suffix == ".parquet" else None


def _cast(column: pa.Array, field: pa.Field) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(field.type):
        if pa.types.is_floating(kind) or pa.types.is_nested(kind):
            raise ValueError(f"{field.name}: is {kind}; write it as integers or strings")
        column = column.cast(pa.string())
        return pc.if_else(pc.equal(column, ""), None, column)
    if pa.types.is_temporal(kind):
        return column.cast(pa.timestamp("s", getattr(kind, "tz", None)), safe=False).cast(pa.int64()).cast(field.type)
    # Integers above 2**53 lose digits as floats; times in nanoseconds can spare them.
    return column.cast(field.type, safe=not pa.types.is_floating(field.type))
