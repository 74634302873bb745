"""One server of OpenAI's embeddings interface: its key, its pace, what to try again, and whether an answer is whole.

The SDK's own retries are off: they try again where no quota is left, and know nothing of answers that arrive damaged.
"""

import base64
import json
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from openai import APIConnectionError, APIError, APIStatusError, OpenAI
from tenacity import RetryCallState, Retrying, sleep_using_event, stop_after_attempt, stop_any, stop_when_event_set

from modalrec.encoders._openai_key import KEY, host_of, key
from modalrec.errors import UpstreamError

# B texts of a request, D length of a vector.

T = TypeVar("T")
NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
ATTEMPTS_AT_DAMAGE = 2
"""A damaged answer is paid for all the same, so few are bought."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


class Damaged(Exception):
    """An answer arrived, but not one that can be used."""


class Stopped(Exception):
    """Another request met an error that ends all of them."""


class Service:
    """Requests to one server, from several threads, until one of them meets an error that ends all: it sets `stop`.

    Args:
        base_url: Of the server.
        attempts: How often a request is tried.
        timeout: Seconds of silence after which one has failed.
        requests_per_minute: Not to be exceeded.
        tokens_per_minute: Not to be exceeded.
    """

    def __init__(
        self, base_url: str, attempts: int, timeout: float, requests_per_minute: float, tokens_per_minute: float
    ) -> None:
        # Without a key of the server's the SDK still wants one.
        self._key = key()
        self.client = OpenAI(api_key=self._key or "none", base_url=base_url, max_retries=0, timeout=timeout)
        self.host = host_of(base_url)
        self.attempts = attempts
        self.stop = threading.Event()
        self._pace = requests_per_minute / 60, tokens_per_minute / 60
        self._lock = threading.Lock()
        self._next = 0.0

    def ask(self, send: Callable[[], T], tokens: float = 0) -> T:
        """Sends a request when its turn has come, and again where that may help.

        Raises:
            UpstreamError: The server refuses the request, has no quota left, or fails again and again.
            Stopped: `stop` was set meanwhile.
        """

        def once() -> T:
            self._await_turn(tokens)
            try:
                return send()
            except json.JSONDecodeError as error:
                raise Damaged(str(error)) from None

        retrying = Retrying(
            stop=stop_any(stop_after_attempt(self.attempts), stop_when_event_set(self.stop)),
            retry=_again,
            wait=self._wait,
            sleep=sleep_using_event(self.stop),
            reraise=True,
        )
        try:
            return retrying(once)
        except (APIError, Damaged) as error:
            if self.stop.is_set():  # it was not this error that ended all
                raise Stopped from None
            self.stop.set()
            raise UpstreamError(self._explain(error)) from None
        except BaseException:
            self.stop.set()
            raise

    def _await_turn(self, tokens: float) -> None:
        """Spreads requests and tokens evenly over time."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + max(1 / self._pace[0], tokens / self._pace[1])
        if self.stop.wait(max(0.0, start - time.monotonic())):
            raise Stopped

    def _wait(self, state: RetryCallState) -> float:
        """As long as the server asks for, which then holds for all threads, or ever longer."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error) if isinstance(error, APIStatusError) else 0.0
        if asked:
            with self._lock:
                self._next = max(self._next, time.monotonic() + asked)
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (state.attempt_number - 1))
        return max(asked, random.uniform(longest / 2, longest))

    def _explain(self, error: APIError | Damaged) -> str:
        if isinstance(error, Damaged):
            return (
                f"{self.host}: damaged answers ({error}); look at the server and at proxies before it, then run again"
            )
        if not isinstance(error, APIStatusError):
            return (
                f"{self.host}: does not answer, {self.attempts} attempts ({type(error).__name__}); check base_url, the "
                "network and the service's status page, then run again"
            )
        if error.status_code == 401:  # what the server says of it may hold the key
            return f"{self.host}: refuses the key (HTTP 401); set {KEY} to one that is valid, then run again"
        said = f"HTTP {error.status_code}, {self.told(error)}"
        if _no_quota(error):
            return (
                f"{self.host}: no quota is left ({said}); add credit or raise the limit of the account, then run again"
            )
        if _again_at(error):
            return f"{self.host}: fails, {self.attempts} attempts ({said}); wait, or lower concurrency, then run again"
        return f"{self.host}: refuses the request ({said}); check model, dimensions and what the key may do"

    def told(self, error: APIStatusError) -> str:
        """The server's message, in short and without the key."""
        body = error.body if isinstance(error.body, dict) else {}
        message = " ".join(str(body.get("message") or body.get("code") or error.message).split())[:200]
        return message.replace(self._key, "***") if self._key else message


def rows_of(content: bytes, count: int, width: int | None, dimension: int) -> tuple[NDArray[np.float32], int]:
    """The vectors [B, D] of an answer, each at its index and of length 1, and the tokens that the server counted.

    Args:
        content: The answer's body.
        count: B.
        width: Length that the server's vectors must have; None where they are cut here.
        dimension: D.

    Raises:
        Damaged: It is no JSON, or a row is missing, there twice, or not finite.
        UpstreamError: The vectors are of another length.
    """
    try:
        answer = json.loads(content)
        rows = {}
        for row in answer["data"]:
            index = row["index"]
            if index in rows:
                raise Damaged(f"index {index!r} stands there twice")
            rows[index] = numbers_of(row["embedding"])
        tokens = int((answer.get("usage") or {}).get("total_tokens") or 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{type(error).__name__}: {str(error)[:100]}") from None
    if set(rows) != set(range(count)):
        missing = sorted(set(range(count)) - set(rows))
        raise Damaged(f"{len(rows)} rows for {count} texts, none of index {missing[:1]}")
    return np.stack([vector_of(rows[index], width, dimension) for index in range(count)]), tokens


def vector_of(numbers_W: NDArray[np.float32], width: int | None, dimension: int) -> NDArray[np.float32]:
    """The first D numbers, as a vector of length 1; see `rows_of`."""
    if len(numbers_W) < dimension or width not in (None, len(numbers_W)):
        raise UpstreamError(
            f"the server sends vectors of length {len(numbers_W)}, and dimensions={dimension}; set encoder.dimensions "
            "to its length, or encoder.shorten=client to cut longer ones here"
        )
    vector_D = numbers_W[:dimension].astype(np.float64)
    norm = float(np.linalg.norm(vector_D))
    if not np.isfinite(numbers_W).all() or not math.isfinite(norm) or norm == 0:
        raise Damaged("a vector is not finite, or zero")
    return (vector_D / norm).astype(np.float32)


def numbers_of(embedding: Any) -> NDArray[np.float32]:
    """A vector as the interface writes it: a list of numbers, or base64 of float32."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    numbers = np.asarray(embedding)
    if numbers.ndim != 1 or numbers.dtype.kind not in "if":
        raise ValueError("an embedding is no list of numbers")
    return numbers.astype(np.float32)


def _again(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Damaged):
        return state.attempt_number < ATTEMPTS_AT_DAMAGE
    return isinstance(error, APIError) and _again_at(error)


def _again_at(error: APIError) -> bool:
    """Whether the same request may succeed a moment later."""
    if isinstance(error, APIStatusError):
        return (error.status_code in (408, 409, 429) or error.status_code >= 500) and not _no_quota(error)
    return isinstance(error, APIConnectionError)


def _no_quota(error: APIStatusError) -> bool:
    return error.code in NO_QUOTA or error.type in NO_QUOTA


def _retry_after(error: APIStatusError) -> float:
    """Seconds that the server asks to wait, 0 where it does not say."""
    for header, divisor in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return min(max(0.0, float(error.response.headers[header]) / divisor), 10 * LONGEST_WAIT)
        except (KeyError, ValueError):
            continue
    return 0.0
