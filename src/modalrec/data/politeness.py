"""Asking a host of strangers as one guest would: few requests at a time, and a breath between them."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Politeness:
    """Limits of each host, for the threads of one download.

    Args:
        per_host: Requests of a host at a time.
        pause: Seconds between the beginnings of two requests of a host.
    """

    def __init__(self, per_host: int, pause: float) -> None:
        self._per_host = per_host
        self._pause = pause
        self._lock = threading.Lock()
        self._places: dict[str, threading.Semaphore] = {}
        self._next: dict[str, float] = {}

    @contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Waits for this host's turn, and holds it."""
        with self._lock:
            place = self._places.setdefault(host, threading.Semaphore(self._per_host))
        with place:
            with self._lock:
                now = time.monotonic()
                begin = max(now, self._next.get(host, now))
                self._next[host] = begin + self._pause
            time.sleep(begin - now)
            yield

    def hold_off(self, host: str, seconds: float) -> None:
        """Asks nothing of a host for a while: it has said so."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), time.monotonic() + seconds)
