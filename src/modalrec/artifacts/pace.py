"""Answers that only drip: a service may send a byte now and then for ever, which no timeout of single reads notices."""

import time
from collections.abc import Iterable, Iterator

LEAST = 1024
"""Bytes a second; below it an answer does not come to its end in a day."""


def steady(blocks: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """Passes on what comes, as long as it comes fast enough.

    Args:
        blocks: What comes, in the pieces in which it does.
        seconds: How long it may be slower than `LEAST` bytes a second.

    Raises:
        TimeoutError: It was slower for as long.
    """
    begin, came = time.monotonic(), 0
    for block in blocks:
        yield block
        came += len(block)
        if (spent := time.monotonic() - begin) >= seconds:
            if came < LEAST * spent:
                raise TimeoutError(f"{came:,} bytes in {spent:.0f} s")
            begin, came = time.monotonic(), 0
