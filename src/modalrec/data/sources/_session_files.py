"""The files of a folder of sessions: which there are, how they are written, and what is in a row of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from modalrec.data.archives import is_inside
from modalrec.data.delimited import UNREADABLE, open_binary, read_delimited, read_header
from modalrec.data.pickles import read_frame
from modalrec.data.sources._columns import convert, open_parquet, read_parquet
from modalrec.errors import ConfigError, DataError, Problems

TEXTS = (".txt", ".tsv", ".csv", ".dat")
PICKLES = (".pickle", ".pkl")
NAMES = ("SessionId", "ItemId", "Time")
"""The columns that GRU4Rec's own files have."""
ROWS = 1 << 18


@dataclass(frozen=True)
class Table:
    """How a file of events is read.

    Attributes:
        path: The file: text, perhaps packed (`.gz`), parquet, or a pickled DataFrame.
        delimiter: Of text.
        names: Column names of text without a header.
        allow_pickle: Whether a pickle is read.
    """

    path: Path
    delimiter: str
    names: Sequence[str] = ()
    allow_pickle: bool = False

    @property
    def kind(self) -> str:
        """text, parquet or pickle."""
        suffix = Path(self.path.name.removesuffix(".gz")).suffix
        return "parquet" if suffix == ".parquet" else "pickle" if suffix in PICKLES else "text"

    def columns(self) -> dict[str, pa.DataType]:
        """From the file's columns to their types; text has strings."""
        if self.kind == "parquet":
            return {field.name: field.type for field in open_parquet(self.path).schema_arrow}
        if self.kind == "pickle":
            return {field.name: field.type for field in self._frame().schema}
        names = self.names or read_header(self.path, self.delimiter)
        return dict.fromkeys(names, pa.string())

    def read(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The columns of a schema.

        Raises:
            DataError: The file is malformed; all its problems in one error.
        """
        if self.kind == "parquet":
            return read_parquet(self.path, schema)
        if self.kind == "pickle":
            return convert(self._frame().to_batches(ROWS), schema, self.path)
        return read_delimited(self.path, schema, self.delimiter, names=self.names)

    def _frame(self) -> pa.Table:
        if not self.allow_pickle:
            raise ConfigError(
                f"{self.path}: is a pickle, which can hold code; it is read only with --allow-pickle "
                "(source.allow_pickle=true), and then as data alone. Better: write the frame as parquet or TSV"
            )
        return read_frame(self.path)


def check_columns(table: Table, wanted: dict[str, str]) -> dict[str, pa.DataType]:
    """The types of the wanted columns, by meaning.

    Raises:
        DataError: Columns are missing; all of them in one error.
    """
    found = table.columns()
    problems = Problems(table.path)
    for meaning, column in wanted.items():
        if column not in found:
            problems.add("", f"no column {column!r} for {meaning}")
    known = ", ".join(found)
    problems.raise_if_any(
        f"It has {known}; set source.columns, source.delimiter, or source.header for a file without one"
    )
    return {meaning: found[column] for meaning, column in wanted.items()}


def named_file(folder: Path, name: str, field: str) -> Path:
    """A file of the folder by name, or the packed one of that name.

    Raises:
        ConfigError: The name leads out of the folder or is of no known form.
        DataError: There is no such file.
    """
    suffix = Path(name.removesuffix(".gz")).suffix
    if not is_inside(name) or suffix not in (*TEXTS, ".parquet", *PICKLES):
        forms = ", ".join((*TEXTS, ".parquet", *PICKLES))
        raise ConfigError(f"source.{field}: {name!r} is not a file in the source folder that ends in {forms} (.gz)")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise DataError(f"{folder}: no file {name!r} for source.{field}; the folder holds {present}")


def find_sessions(folder: Path) -> list[Path]:
    """Files that look like GRU4Rec's: by their columns; where there are none, pickles, which are not opened."""
    files = [
        path for path in sorted(folder.iterdir()) if path.is_file() and stem(path) not in ("items", "interactions")
    ]
    found = [path for path in files if _looks_like_sessions(path)]
    return found or [path for path in files if path.suffix in PICKLES]


def choose(files: Sequence[Path], folder: Path) -> dict[str, list[str]]:
    """Guesses what the files of a folder are: `{"events": [one]}`, or train, valid and test by the ends of their names.

    Raises:
        DataError: That is not clear.
    """
    stems = {stem(path): path.name for path in files}
    ends = {
        part: [name for key, name in stems.items() if key.endswith(part)] for part in ("test", "train_full", "train")
    }
    train = ends["train_full"] or ends["train"]
    if len(train) == len(ends["test"]) == 1:
        valid = [] if ends["train_full"] else [name for key, name in stems.items() if key.endswith("valid")]
        return {"train": train, "test": ends["test"]} | ({"valid": valid} if len(valid) == 1 else {})
    if len(files) == 1:
        return {"events": [files[0].name]}
    state = f"has {', '.join(stems.values())}" if files else "has no file with the columns SessionId, ItemId and Time"
    raise DataError(f"{folder}: {state}. Set source.train and source.test, or source.events, to the names of the files")


def stem(path: Path) -> str:
    """The name without its suffixes."""
    return path.name.partition(".")[0]


def delimiter_of(path: Path) -> str:
    """What the name of a text file says of its delimiter, unless the first line has none of it and another instead."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in TEXTS:
        return ","
    said = "\t" if suffix in (".txt", ".tsv") else ","
    with open_binary(path) as file:
        try:
            line = file.readline(1 << 16)
        except UNREADABLE:
            return said  # Whoever reads the file says what is wrong with it.
    return said if said.encode() in line else next((mark for mark in "\t,;" if mark.encode() in line), said)


def _looks_like_sessions(path: Path) -> bool:
    kind = Path(path.name.removesuffix(".gz")).suffix
    try:
        if kind == ".parquet":
            return set(NAMES) <= set(open_parquet(path).schema_arrow.names)
        return kind in TEXTS and set(NAMES) <= set(read_header(path, delimiter_of(path)))
    except DataError:
        return False
