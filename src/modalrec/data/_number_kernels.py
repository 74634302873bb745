"""Lines of plainly written numbers, parsed by compiled code; `delimited` has the forgiving ways."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import inlined, kernel

SKIPPED, WHOLE, DECIMAL = 0, 1, 2
"""What is made of a column's cells."""
LINE_BREAK, RETURN, MINUS, POINT = b"\n\r-."
_ZERO = np.uint8(ord("0"))
_START, _ONE = np.uint64(0), np.uint64(1)
# Unsigned places take half the time: the compiler need not look for negative ones, which count from the end.
WHOLE_DIGITS = 18
"""No number of as many digits leaves int64."""
DECIMAL_DIGITS = 7
"""A float32 holds any number of as many digits, so that one division by a power of ten gives the nearest float32."""


@kernel
def parse_lines(
    text: NDArray[np.uint8], delimiter: int, repeats: int, kinds: NDArray[np.int8], whole: NDArray[np.int64],
    decimal: NDArray[np.float32],
) -> int:  # fmt: skip
    """Parses lines, each ended by a line break, up to the first that is not written plainly.

    Args:
        text: [bytes] the lines.
        delimiter: The character between cells.
        repeats: How often it stands there.
        kinds: [columns] SKIPPED, WHOLE or DECIMAL.
        whole: [columns, lines] takes whole numbers.
        decimal: [columns, lines] takes decimal ones.

    Returns:
        How many lines were parsed; fewer than there are where one is odd: has another number of cells, a cell that is
        empty, has a blank, a quote, a sign but minus, an exponent, or more digits than are sure to be exact.
    """
    at, row, last = _START, 0, len(kinds) - 1
    while at < np.uint64(len(text)):
        for column in range(last + 1):
            kind = kinds[column]
            if kind == SKIPPED:
                while text[at] != delimiter and text[at] != LINE_BREAK:
                    at += _ONE
            else:
                negative = text[at] == MINUS
                if negative:
                    at += _ONE
                begin = at
                number, at = _digits(text, at, np.int64(0))
                digits = at - begin
                if kind == DECIMAL:
                    scale = np.float32(1)
                    if text[at] == POINT:
                        begin = at + _ONE
                        number, at = _digits(text, begin, number)
                        digits += at - begin
                        for _ in range(at - begin):
                            scale *= np.float32(10)
                    decimal[column, row] = np.float32(-number if negative else number) / scale
                else:
                    whole[column, row] = -number if negative else number
                if digits == 0 or digits > np.uint64(DECIMAL_DIGITS if kind == DECIMAL else WHOLE_DIGITS):
                    return row
            if column < last:
                for _ in range(repeats):
                    if text[at] != delimiter:
                        return row
                    at += _ONE
        if text[at] == RETURN:
            at += _ONE
        if text[at] != LINE_BREAK:
            return row
        at += _ONE
        row += 1
    return row


@inlined
def _digits(text: Any, at: Any, number: Any) -> Any:
    """The number with the digits from a place on behind it, and where they end; they do, since lines do."""
    digit = text[at] - _ZERO
    while digit <= 9:
        number = number * 10 + np.int64(digit)
        at += _ONE
        digit = text[at] - _ZERO
    return number, at
