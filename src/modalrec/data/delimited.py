"""Reading CSV and TSV files of any size, batch by batch, with every problem of a file in one error.

Arrow parses fast but says little about what is wrong. So a file is parsed by Arrow, and only where that meets anything
odd is it read again, slowly, by the csv module, which names every bad line.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from modalrec.errors import DataError, Problems

BLOCK = 8 << 20
"""Bytes that Arrow parses at a time; a record must be shorter."""

NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
UNDECODED = re.compile("[\udc80-\udcff]")
UNREADABLE = (OSError, EOFError, zlib.error)
MEND = "Mend these lines, or take them out, and run ingest again"


def open_binary(path: Path) -> IO[bytes]:
    """Opens a file for reading, unpacking `.gz` on the way.

    Raises:
        DataError: The file is missing, empty or not a file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds it")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty; fetch it again")
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_header(path: Path, delimiter: str = ",", *, quoting: bool = True) -> list[str]:
    """The column names of a delimited file.

    Raises:
        DataError: The file is missing, empty or unreadable, or a name stands twice.
    """
    with _Records(path, delimiter, quoting) as records:
        try:
            header = next(records, [])
        except (csv.Error, *UNREADABLE) as error:
            raise _unreadable(path, error) from None
    names = [name.strip() for name in header]
    if any(UNDECODED.search(name) or "\0" in name for name in names) or not any(names):
        raise DataError(f"{path}: line 1 is no header in UTF-8; give a text file with column names in its first line")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: line 1: two columns are named {twice[0]!r}; rename one of them")
    return names


def read_delimited(
    path: Path, schema: pa.Schema, delimiter: str = ",", *, quoting: bool = True, names: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Yields the columns of a schema; other columns of the file are left out.

    Cells are stripped of surrounding blanks; an empty cell is null.

    Args:
        path: A file in UTF-8 with or without a byte order mark, perhaps packed (`.gz`).
        schema: The columns to read: strings, integers and floats; fields that are not nullable must be filled.
        delimiter: What separates cells.
        quoting: Cells may be quoted with `"`, and then hold delimiters and, where they may be null, line breaks.
        names: Column names of a file that has none in its first line.

    Raises:
        DataError: The file is missing, empty, cut short or not text; a column is missing; or lines are bad: all of
            them in one error, by line number.
    """
    header = list(names) or read_header(path, delimiter, quoting=quoting)
    above = 0 if names else 1
    missing = [name for name in schema.names if name not in header]
    if missing:
        raise DataError(
            f"{path}: {'line 1: ' if above else ''}no column {', '.join(map(repr, missing))}; "
            f"found {', '.join(map(repr, header))}. "
            "Name the columns as expected, or set the column names in the source's config"
        )
    rows = 0
    checked = False
    try:
        with open_binary(path) as file:
            for batch in _parse(file, header, above, delimiter, quoting):
                if quoting and not checked and _has_line_break(batch):
                    # An unclosed quote swallows lines silently; the strict parser knows it from a real line break.
                    _diagnose(path, schema, header, above, delimiter, quoting)
                    checked = True
                rows += batch.num_rows
                yield _convert(batch, schema)
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    except (pa.ArrowException, ValueError) as error:
        _diagnose(path, schema, header, above, delimiter, quoting)
        raise DataError(f"{path}: cannot be read: {error}. {MEND}") from None
    if rows == 0:
        raise DataError(f"{path}: has a header and no rows; fetch it again")


def _parse(file: IO[bytes], header: list[str], above: int, delimiter: str, quoting: bool) -> Iterator[pa.RecordBatch]:
    """The rows below the first `above` lines."""
    reader = pacsv.open_csv(
        file,
        read_options=pacsv.ReadOptions(block_size=BLOCK, column_names=header, skip_rows=above),
        parse_options=pacsv.ParseOptions(
            delimiter=delimiter, quote_char='"' if quoting else False, newlines_in_values=quoting
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            null_values=[""],
        ),
    )
    yield from reader


def _convert(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = []
    for field in schema:
        column = pc.utf8_trim_whitespace(batch.column(field.name))
        column = pc.if_else(pc.equal(column, ""), None, column)
        if not pa.types.is_string(field.type):
            numbers = column.cast(pa.float64())
            if not pc.all(pc.is_finite(numbers), min_count=0).as_py():
                raise ValueError(f"{field.name}: a number is not finite")
            column = numbers.cast(field.type)
        if column.null_count and not field.nullable:
            raise ValueError(f"{field.name}: a cell is empty")
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _has_line_break(batch: pa.RecordBatch) -> bool:
    return any(pc.any(pc.match_substring(column, "\n"), min_count=0).as_py() for column in batch.columns)


def _diagnose(path: Path, schema: pa.Schema, header: list[str], above: int, delimiter: str, quoting: bool) -> None:
    """Reads the file slowly and raises one error with every bad line; returns where it finds none."""
    problems = Problems(path)
    fields = [(header.index(field.name), field) for field in schema]
    with _Records(path, delimiter, quoting) as records:
        line = 1
        try:
            for cells in records:
                first, line = line, records.line_num + 1
                if first <= above or not cells:
                    continue
                if len(cells) != len(header):
                    problems.add(
                        f"line {first}",
                        f"{len(cells)} cells, {'the header has' if above else 'expected'} {len(header)}",
                    )
                    continue
                for place, field in fields:
                    fault = _fault(cells[place].strip(), field)
                    if fault:
                        problems.add(f"line {first}, {field.name}", fault)
        except csv.Error as error:
            problems.add(f"line {line}", f"{error} (is a quote not closed?)")
        except UNREADABLE as error:
            raise _unreadable(path, error) from None
    problems.raise_if_any(MEND)


def _fault(cell: str, field: pa.Field) -> str:
    shown = repr(cell if len(cell) <= 40 else cell[:40] + "...")
    if not cell:
        return "" if field.nullable else "is empty"
    if UNDECODED.search(cell):
        return f"{shown} is not UTF-8"
    if pa.types.is_string(field.type):
        # Texts have line breaks, names that must be there do not.
        return "" if field.nullable or "\n" not in cell else f"{shown} holds a line break (is a quote not closed?)"
    if not NUMBER.fullmatch(cell) or abs(float(cell)) == float("inf"):
        return f"{shown} is not a number"
    if pa.types.is_integer(field.type) and float(cell) % 1:
        return f"{shown} is not a whole number"
    return ""


class _Records:
    """The records of a file by the csv module, closed at the end."""

    def __init__(self, path: Path, delimiter: str, quoting: bool) -> None:
        self._text = io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._reader = csv.reader(
            self._text, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=True
        )

    def __enter__(self) -> "_Records":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        return next(self._reader)

    @property
    def line_num(self) -> int:
        return self._reader.line_num


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = "is cut short" if isinstance(error, EOFError) else f"cannot be read ({error})"
    return DataError(f"{path}: {reason}; fetch it again")
