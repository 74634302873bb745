"""Reading CSV and TSV files of any size, batch by batch, with every problem of a file in one error.

Arrow parses fast but says little about what is wrong. So a file is parsed by Arrow, numbers straight to numbers where
no cell can hold a line break, or by compiled code where all are numbers that must be there; where that meets anything
odd the cells are read as texts, which forgives blanks around them; and only where that fails too is it read by the csv
module, slowly, which names every bad line.
"""

import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from modalrec.compiled import AVAILABLE
from modalrec.data._number_kernels import DECIMAL, SKIPPED, WHOLE, parse_lines
from modalrec.data.members import File, Member
from modalrec.errors import DataError, Problems

BLOCK = 8 << 20
"""Bytes that Arrow parses at a time where cells are texts; a record must be shorter."""
NUMBERS_BLOCK = 1 << 20
"""The same for numbers, which are parsed faster in blocks that a processor's cache holds."""

KINDS = {pa.int64(): WHOLE, pa.float32(): DECIMAL}
"""What compiled code makes of cells."""

NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
UNDECODED = re.compile("[\udc80-\udcff]")
UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile)
MEND = "Mend these lines, or take them out, and run ingest again"


def open_binary(path: File) -> IO[bytes]:
    """Opens a file for reading, unpacking `.gz` and zips on the way.

    Raises:
        DataError: The file is missing, empty or not a file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the folder that holds it")
    if (path.size if isinstance(path, Member) else path.stat().st_size) == 0:
        raise DataError(f"{path}: is empty; fetch it again")
    if isinstance(path, Member):
        return path.open()
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_header(path: File, delimiter: str = ",", *, quoting: bool = True) -> list[str]:
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
    path: File, schema: pa.Schema, delimiter: str = ",", *, quoting: bool = True, names: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """Yields the columns of a schema; other columns of the file are left out.

    Cells are stripped of surrounding blanks; an empty cell is null.

    Args:
        path: A file in UTF-8 with or without a byte order mark, perhaps packed (`.gz`).
        schema: The columns to read: strings, integers and floats; fields that are not nullable must be filled.
        delimiter: What separates cells: a character, or one twice, as `::`, that stands in no cell alone.
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
    file = _File(path, schema, header, above, delimiter, quoting)
    rows = 0
    try:
        for batches in file.ways():
            try:
                for batch in batches(rows):
                    rows += batch.num_rows
                    yield batch
                break
            except (pa.ArrowException, ValueError):
                if batches == file.texts:
                    raise
    except UNREADABLE as error:
        raise _unreadable(path, error) from None
    except (pa.ArrowException, ValueError) as error:
        file.diagnose()
        raise DataError(f"{path}: cannot be read: {error}. {MEND}") from None
    if rows == 0:
        raise DataError(f"{path}: has a header and no rows; fetch it again")


class _File(NamedTuple):
    """A delimited file of which the columns of `schema` are wanted; rows begin below the first `above` lines."""

    path: File
    schema: pa.Schema
    header: list[str]
    above: int
    delimiter: str
    quoting: bool

    def ways(self) -> list[Callable[[int], Iterator[pa.RecordBatch]]]:
        """How the rows can be read, the fastest way first."""
        texts = any(field.nullable and pa.types.is_string(field.type) for field in self.schema)
        plain = all(field.type in KINDS and not field.nullable for field in self.schema)
        return [self.plain] * (plain and AVAILABLE) + [self.numbers] * (not (texts and self.quoting)) + [self.texts]

    def plain(self, skip: int) -> Iterator[pa.RecordBatch]:
        """The rows after the first `skip`, where each is a line of plainly written numbers.

        Raises:
            ValueError: A line is written in another way.
        """
        wanted = {name: KINDS[kind] for name, kind in zip(self.schema.names, self.schema.types, strict=True)}
        kinds = np.array([wanted.get(name, SKIPPED) for name in self.header], np.int8)
        with open_binary(self.path) as file:
            for _ in range(self.above):
                file.readline()
            for lines in _whole_lines(file):
                count, repeats = int(np.count_nonzero(lines == ord("\n"))), len(self.delimiter)
                whole, decimal = np.empty((len(kinds), count), np.int64), np.empty((len(kinds), count), np.float32)
                if parse_lines(lines, ord(self.delimiter[0]), repeats, kinds, whole, decimal) < count:
                    raise ValueError("a line is not of plain numbers")
                places = [(self.header.index(name), kind) for name, kind in wanted.items()]
                columns = [pa.array((whole if kind == WHOLE else decimal)[place]) for place, kind in places]
                yield from _after(pa.RecordBatch.from_arrays(columns, schema=self.schema), skip)
                skip = max(0, skip - count)

    def numbers(self, skip: int) -> Iterator[pa.RecordBatch]:
        """The rows after the first `skip`, parsed to their types.

        Raises:
            ValueError, ArrowException: A cell is not as its type is written, be it for a blank, or one is quoted.
        """
        types = {field.name: field.type for field in self.schema}
        for batch in self._parsed(types, NUMBERS_BLOCK, line_breaks=False):
            yield from _after(_checked(batch, self.schema), skip)
            skip = max(0, skip - batch.num_rows)

    def texts(self, skip: int) -> Iterator[pa.RecordBatch]:
        """The same by way of texts, stripped of blanks."""
        types = dict.fromkeys(self.header, pa.string())
        suspicious = self.quoting
        for batch in self._parsed(types, BLOCK, line_breaks=self.quoting):
            if suspicious and _has_line_break(batch):
                # An unclosed quote swallows lines silently; the strict parser knows it from a real line break.
                self.diagnose()
                suspicious = False
            yield from _after(_convert(batch, self.schema), skip)
            skip = max(0, skip - batch.num_rows)

    def _parsed(self, types: dict[str, pa.DataType], block: int, *, line_breaks: bool) -> Iterator[pa.RecordBatch]:
        names = self.header
        if len(self.delimiter) == 2:  # to Arrow, every second cell is empty
            names = [name for column in names for name in (column, f"\0{column}")][:-1]
        with open_binary(self.path) as file:
            yield from pacsv.open_csv(
                file if line_breaks or not self.quoting else _Unquoted(file),
                read_options=pacsv.ReadOptions(
                    block_size=block, column_names=names, skip_rows=self.above, use_threads=False
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=self.delimiter[0],
                    quote_char='"' if self.quoting else False,
                    newlines_in_values=line_breaks,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=types,
                    include_columns=list(types),
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                    null_values=[""],
                ),
            )

    def diagnose(self) -> None:
        """Reads the file slowly and raises one error with every bad line; returns where it finds none."""
        _diagnose(self.path, self.schema, self.header, self.above, self.delimiter, self.quoting)


def _whole_lines(file: IO[bytes]) -> Iterator[NDArray[np.uint8]]:
    """The bytes of the rest of a file in blocks that end with a line."""
    rest = b""
    while block := file.read(NUMBERS_BLOCK):
        text = rest + block
        end = text.rfind(b"\n", len(rest)) + 1
        if end:
            yield np.frombuffer(text, np.uint8, end)
        rest = text[end:]
    if rest:
        yield np.frombuffer(rest + b"\n", np.uint8)


class _Unquoted:
    """A file without a quote after its first line: where quotes are, a record may be more than a line."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._first = True
        self.closed = False

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: There is a quote in them.
        """
        block = self._file.read(size)
        if block.find(b'"', block.find(b"\n") + 1 if self._first else 0) >= 0:
            raise ValueError("cells are quoted")
        self._first = False
        return block

    def close(self) -> None:
        """Arrow closes what it has read; the file is closed by who opened it."""
        self.closed = True


def _after(batch: pa.RecordBatch, skip: int) -> Iterator[pa.RecordBatch]:
    """The rows after the first `skip`, where there are any."""
    if skip < batch.num_rows:
        yield batch.slice(skip)


def _checked(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns as they were parsed."""
    columns = [batch.column(field.name) for field in schema]
    columns = [pc.utf8_trim_whitespace(cells) if pa.types.is_string(cells.type) else cells for cells in columns]
    for field, column in zip(schema, columns, strict=True):
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            raise ValueError(f"{field.name}: a number is not finite")
        if column.null_count and not field.nullable:
            raise ValueError(f"{field.name}: a cell is empty")
        if pa.types.is_string(field.type) and pc.any(pc.equal(column, ""), min_count=0).as_py():
            raise ValueError(f"{field.name}: a cell is blank")
    return pa.RecordBatch.from_arrays(columns, schema=schema)


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


def _diagnose(path: File, schema: pa.Schema, header: list[str], above: int, delimiter: str, quoting: bool) -> None:
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

    def __init__(self, path: File, delimiter: str, quoting: bool) -> None:
        self._doubled = len(delimiter) == 2
        self._text = io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._reader = csv.reader(
            self._text, delimiter=delimiter[0], quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=True
        )

    def __enter__(self) -> "_Records":
        return self

    def __exit__(self, *_: object) -> None:
        self._text.close()

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        cells = next(self._reader)
        return cells[::2] if self._doubled and not any(cells[1::2]) else cells

    @property
    def line_num(self) -> int:
        return self._reader.line_num


def _unreadable(path: File, error: Exception) -> DataError:
    reason = "is cut short" if isinstance(error, EOFError) else f"cannot be read ({error})"
    return DataError(f"{path}: {reason}; fetch it again")
