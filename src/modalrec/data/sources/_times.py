"""Times as they stand in files of events, as milliseconds since 1970."""

from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from modalrec.errors import Problems

UNITS = {"s": 10**3, "ms": 1, "us": 10**-3, "ns": 10**-6}
"""Milliseconds in one."""
ADVICE = "Mend or drop these rows, or set source.time_format to s, ms, us, ns, iso, or a pattern such as %d/%m/%Y %H:%M"
LATEST = 10**14
"""Milliseconds since 1970 at the year 5138: larger ones are in another unit."""
ZONE = r"(Z|[+-]\d\d:?\d\d)$"


def type_for(form: str, kind: pa.DataType) -> pa.DataType:
    """The type as which a column of times is read: parquet's times know their unit, texts are parsed here."""
    if pa.types.is_temporal(kind):
        return pa.timestamp("ms")
    return pa.float64() if form in UNITS else pa.string()


def milliseconds(column: pa.Array, form: str, problems: Problems, name: str, row: int) -> pa.Array:
    """Times as int64 milliseconds since 1970; a fraction of one is rounded, so that 0.94 s is 940.

    Args:
        column: Numbers or texts, or milliseconds already; none is null.
        form: A unit of `UNITS`, `iso` for ISO 8601 (also with a blank for the T, ` UTC` for the Z, or a date alone; a
            time without a zone is UTC), or a pattern of `strptime`.
        problems: Takes what is no time; the result is of no use then.
        name: The column's name, for messages.
        row: Rows of the file before this batch.
    """
    if pa.types.is_int64(column.type):
        return column
    if form not in UNITS:
        return _parsed_or_noted(column, form, problems, name, row)
    # Seconds with decimals are floats that no millisecond is equal to: round, not floor.
    times = pc.round(pc.multiply(column.cast(pa.float64()), float(UNITS[form])))
    late = pc.greater(pc.abs(times), LATEST)
    places = late.to_numpy(zero_copy_only=False).nonzero()[0].tolist()
    what = f"is after the year 5000 when read in {form}"
    problems.extend([f"row {row + place + 1}, {name}" for place in places], what)
    return pc.if_else(late, 0.0, times).cast(pa.int64())


def check_form(form: str) -> None:
    """Raises ValueError for what is neither a unit nor `iso` nor a pattern."""
    if form in UNITS or form == "iso":
        return
    if "%" not in form:
        raise ValueError(f"time_format: {form!r} is not s, ms, us, ns, iso or a pattern such as %Y-%m-%d %H:%M:%S")
    try:
        datetime.now().strftime(form)
    except ValueError as error:
        raise ValueError(f"time_format: {form!r} is no pattern of strptime ({error})") from None


def _parsed_or_noted(texts: pa.Array, form: str, problems: Problems, name: str, row: int) -> pa.Array:
    """Parses at once; where that fails, halves, down to the texts that are no times."""
    try:
        return _parsed(texts, form)
    except (pa.ArrowException, ValueError):
        if len(texts) == 1:
            problems.add(f"row {row + 1}, {name}", f"{texts[0].as_py()!r} is no time of the form {form}")
            return pa.array([0])
    half = len(texts) // 2
    parts = ((texts[:half], row), (texts[half:], row + half))
    return pa.concat_arrays([_parsed_or_noted(part, form, problems, name, begin) for part, begin in parts])


def _parsed(texts: pa.Array, form: str) -> pa.Array:
    if form != "iso":
        return pc.strptime(texts, form, "s").cast(pa.timestamp("ms")).cast(pa.int64())
    texts = pc.replace_substring_regex(texts, r" ?UTC$", "Z")
    zoned = pc.match_substring_regex(texts, ZONE)
    flags = zoned.to_numpy(zero_copy_only=False)
    times = np.empty(len(texts), np.int64)
    for which, kind in ((flags, pa.timestamp("ns", "UTC")), (~flags, pa.timestamp("ns"))):
        if which.any():
            moments = texts.filter(pa.array(which)).cast(kind).cast(pa.int64()).to_numpy()
            times[which] = moments // 10**6
    return pa.array(times)
