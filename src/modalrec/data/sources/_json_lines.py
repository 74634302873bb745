"""Files of one JSON object a line, perhaps packed: read once, in blocks, with every bad line by number.

Arrow parses a block at a time and fast, but says little about what is wrong: a block in which it meets anything odd is
parsed again line by line.
"""

import ast
import io
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson

from modalrec.data.delimited import MEND, UNREADABLE, open_binary
from modalrec.errors import DataError, Problems

BLOCK = 4 << 20
"""Bytes read at a time."""
MAX_LINE = 16 << 20
"""Bytes of the longest line; those of the releases stay below one MiB."""
MAX_LITERAL = 1 << 20
"""Bytes of the longest Python literal: its syntax tree takes some hundred times as much."""


class BadLine(Exception):
    """One line that cannot be used; the message is the reason."""


class Lines:
    """The lines of a file, counted, and the bad ones among them.

    Args:
        path: The file.
        max_bad_share: Share of bad lines up to which they are left out.

    Attributes:
        read: Lines that are not blank.
        bad: Lines among them that cannot be used.
    """

    def __init__(self, path: Path, max_bad_share: float = 0.0) -> None:
        self.path = path
        self.max_bad_share = max_bad_share
        self.read = self.bad = 0
        self._problems = Problems(path)

    def columns(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yields the members that a schema names, of all lines; other members are left out.

        Args:
            schema: Strings, integers and floats; those that are not nullable must be there, and strings be filled.

        Raises:
            DataError: The file cannot be read, or too many lines are bad; all of them in one error.
        """
        for first, block in self._blocks():
            batch = _parse(block, schema)
            if batch is None:
                rows = [row for _, row in self._each(first, block, lambda line: _row(parse_line(line), schema))]
                batch = pa.RecordBatch.from_pylist(rows, schema)
            else:
                self.read += batch.num_rows
            yield batch
        self.close()

    def objects(self, *, literals: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yields the number and the object of every line; `close` follows when the caller has looked at them all.

        Args:
            literals: Lines may be Python literals, as those of the first release are.

        Raises:
            DataError: The file cannot be read.
        """
        for first, block in self._blocks():
            yield from self._each(first, block, lambda line: parse_line(line, literals=literals))

    def note(self, line: int, fault: str) -> None:
        """Counts a bad line."""
        self.bad += 1
        self._problems.add(f"line {line}", fault)

    def close(self) -> None:
        """Tells of bad lines, and of files without a line.

        Raises:
            DataError: There are too many.
        """
        if not self.read:
            raise DataError(f"{self.path}: has no lines; fetch it again")
        if self.bad > self.max_bad_share * self.read:
            self._problems.raise_if_any(
                f"{self.bad:,} of {self.read:,} lines are bad, more than max_bad_share={self.max_bad_share:g} of the "
                f"source. {MEND}"
            )

    def _each(self, first: int, block: bytes, read: Any) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in enumerate(io.BytesIO(block), first):
            if line.isspace():
                continue
            self.read += 1
            try:
                found = read(line)
            except BadLine as fault:
                self.note(number, str(fault))
            else:
                yield number, found

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines, and the number of the first of them."""
        number, rest = 1, b""
        try:
            with open_binary(self.path) as file:
                while more := file.read(BLOCK):
                    end = more.rfind(b"\n") + 1
                    if len(rest) + (end or len(more)) > MAX_LINE:
                        raise DataError(
                            f"{self.path}: line {number}: is longer than {MAX_LINE:,} bytes; is each object on a line "
                            "of its own?"
                        )
                    if not end:
                        rest += more
                        continue
                    block, rest = rest + more[:end], more[end:]
                    yield number, block.removeprefix(b"\xef\xbb\xbf") if number == 1 else block
                    number += block.count(b"\n")
        except UNREADABLE as error:
            reason = "is cut short" if isinstance(error, EOFError) else f"cannot be read ({error})"
            raise DataError(f"{self.path}: after line {number - 1}: {reason}; fetch it again") from None
        if rest:
            yield number, rest.removeprefix(b"\xef\xbb\xbf") if number == 1 else rest


def parse_line(line: bytes, *, literals: bool = False) -> dict[str, Any]:
    """The object of a line.

    Args:
        line: JSON in UTF-8.
        literals: A Python literal will do too: data alone, nothing is executed.

    Raises:
        BadLine: It is neither, or no object.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadLine("is not UTF-8") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        if not literals:
            raise BadLine(f"is not JSON ({_reason(error)})") from None
        found = _literal(text)
    if not isinstance(found, dict):
        raise BadLine(f"is no object: {text.strip()[:40]!r}")
    return found


def _literal(text: str) -> Any:
    if len(text) > MAX_LITERAL:
        raise BadLine(f"is longer than {MAX_LITERAL:,} bytes and not JSON")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes that Python will refuse one day
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise BadLine(f"is neither JSON nor a Python literal ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg}, column {error.colno}"
    if isinstance(error, MemoryError | RecursionError):
        return "nested too deeply"
    return f"{error}".partition("\n")[0][:80] if not isinstance(error, SyntaxError) else error.msg


def _parse(block: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    """The columns of a block in which nothing is odd, or None; Arrow itself refuses a null that must not be."""
    try:
        table = pajson.read_json(
            io.BytesIO(block),
            read_options=pajson.ReadOptions(use_threads=False, block_size=len(block) + 1),
            parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        if table.num_rows != lines or not lines:
            return None  # blank lines, or two objects on a line
        batch = table.combine_chunks().to_batches()[0].select(schema.names)
        batch.validate(full=True)
    except pa.ArrowException:
        return None
    for field, column in zip(schema, batch.columns, strict=True):
        if pa.types.is_string(field.type) and pc.any(pc.equal(column, ""), min_count=0).as_py():
            return None
        if pa.types.is_floating(field.type) and not pc.all(pc.is_finite(column), min_count=0).as_py():
            return None
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _row(found: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """The members of a schema, checked.

    Raises:
        BadLine: One is missing or of another type; all of them in one.
    """
    row = {field.name: found.get(field.name) for field in schema}
    faults = [f"{field.name} {fault}" for field in schema if (fault := _fault(row[field.name], field))]
    if faults:
        raise BadLine("; ".join(faults))
    return {
        name: int(value) if isinstance(value, float) and _whole(schema, name) else value for name, value in row.items()
    }


def _whole(schema: pa.Schema, name: str) -> bool:
    return bool(pa.types.is_integer(schema.field(name).type))


def _fault(value: Any, field: pa.Field) -> str:
    if value is None or value == "":
        return "" if value is None and field.nullable else "is missing" if value is None else "is empty"
    if pa.types.is_string(field.type):
        return "" if isinstance(value, str) and _encodes(value) else f"is no text: {value!r:.40}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"is no number: {value!r:.40}"
    if not math.isfinite(value):
        return "is not finite"
    if pa.types.is_integer(field.type) and (value % 1 or abs(value) >= 2**63):
        return f"is no whole number: {value!r:.40}"
    return ""


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
