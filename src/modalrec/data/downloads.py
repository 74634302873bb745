"""Pictures from the web: fetched politely and once, under limits, and kept by address so that a run goes on.

Addresses come from files of strangers. So only public hosts are asked, by http and https, also after redirects; nothing
is read beyond the limit, and nothing is unpacked.
"""

import hashlib
import os
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urljoin

import certifi
import urllib3
from pydantic import Field
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from urllib3.exceptions import HTTPError, LocationValueError
from urllib3.util import parse_url

import modalrec
from modalrec.artifacts.files import write_bytes
from modalrec.config import Config
from modalrec.data.archives import BadFile
from modalrec.data.politeness import Politeness
from modalrec.data.public_hosts import PUBLIC_POOLS, refuse_private
from modalrec.errors import UpstreamError

BLOCK = 1 << 16
LOOK_AHEAD = 16
"""Addresses in work or done before they are asked for, per worker."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
GONE = frozenset({404, 410})
"""Answers that are noted in the cache and not asked for again."""
LONGEST_PAUSE = 60.0


class DownloadConfig(Config):
    """How pictures are fetched.

    Attributes:
        cache: Folder of what was fetched, by the digest of the address; by default `<dataset>.pictures` beside the
            dataset. It outlives the run: nothing in it is fetched again, and it may be removed.
        workers: Downloads at a time, of all hosts together.
        per_host: Downloads at a time of one host; a shop's should see few.
        host_pause: Seconds between two requests of one host.
        attempts: How often an address is asked before a passing fault counts as a bad picture.
        pause: Seconds of about the first pause before another attempt; they double. A host that names a time is heard.
        seconds: Longest time of one attempt.
        redirects: Redirects that are followed.
        give_up_after: Downloads in a row that no attempt could get; then the network or the shop is down, and the stage
            fails.
        allow_private: Also ask hosts of the own network and machine, which public addresses could be made to point to.
    """

    cache: str | None = None
    workers: int = Field(default=4, ge=1, le=32)
    per_host: int = Field(default=4, ge=1, le=32)
    host_pause: float = Field(default=0.05, ge=0)
    attempts: int = Field(default=4, ge=1)
    pause: float = Field(default=0.5, ge=0)
    seconds: float = Field(default=30, gt=0)
    redirects: int = Field(default=3, ge=0)
    give_up_after: int = Field(default=50, ge=1)
    allow_private: bool = False


class _Passing(Exception):
    """A fault that another attempt may not meet; the message is the reason."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Downloads:
    """Contents by address, through a cache. One at a time, from one thread.

    Args:
        config: Limits.
        cache: The folder.
        max_bytes: Longer files are refused.

    Attributes:
        counts: `fetched` and `cached` contents, and the `bytes` fetched.
    """

    def __init__(self, config: DownloadConfig, cache: Path, max_bytes: int) -> None:
        self.config = config
        self.cache = cache
        self.max_bytes = max_bytes
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._politeness = Politeness(config.per_host, config.host_pause)
        self._pool = urllib3.PoolManager(
            num_pools=64,
            maxsize=config.workers,
            retries=False,  # tenacity retries here: urllib3 does not notice a body that is cut short
            timeout=urllib3.Timeout(connect=min(10.0, config.seconds), read=config.seconds),
            headers={"User-Agent": f"modalrec/{modalrec.__version__}", "Accept-Encoding": "identity"},
            cert_reqs="CERT_REQUIRED",
            ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        )
        if not config.allow_private:
            self._pool.pool_classes_by_scheme = PUBLIC_POOLS

    def contents(self, urls: Iterable[str | None]) -> Iterator[bytes | BadFile | None]:
        """Yields what is behind each address, in their order, fetching some ahead: the content, or why there is none.

        Raises:
            UpstreamError: No host answers any more.
        """
        waiting: deque[tuple[str, Future[None]] | None] = deque()
        working: dict[str, Future[None]] = {}
        workers = ThreadPoolExecutor(self.config.workers, thread_name_prefix="pictures")
        try:
            for url in urls:
                if url is None:
                    waiting.append(None)
                else:
                    if url not in working:
                        working[url] = workers.submit(self._ensure, url)
                    waiting.append((url, working[url]))
                if len(waiting) >= LOOK_AHEAD * self.config.workers:
                    yield self._take(waiting.popleft(), working)
            while waiting:
                yield self._take(waiting.popleft(), working)
        finally:
            workers.shutdown(cancel_futures=True)
            self._pool.clear()

    def _take(self, asked: tuple[str, Future[None]] | None, working: dict[str, Future[None]]) -> bytes | BadFile | None:
        if asked is None:
            return None
        url, future = asked
        working.pop(url, None)
        try:
            future.result()
            content = self._path(url).read_bytes()
        except BadFile as fault:
            return fault
        # The limit may have been lowered since.
        return content if len(content) <= self.max_bytes else BadFile("too many bytes")

    def _path(self, url: str, end: str = "") -> Path:
        digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        return self.cache / digest[:2] / f"{digest}{end}"

    def _ensure(self, url: str) -> None:
        """Puts the content into the cache.

        Raises:
            BadFile: It cannot be had.
            UpstreamError: Nothing can be had.
        """
        if self._path(url).is_file():
            self._count(cached=1)
            return
        gone = self._path(url, ".gone")
        if gone.is_file():
            raise BadFile(gone.read_text())
        retrying = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(self.config.attempts),
            wait=self._wait,
            reraise=True,
        )
        try:
            content = retrying(self._get, url)
        except _Passing as fault:
            self._note_failure(url, str(fault))
            raise BadFile(str(fault)) from None
        except BadFile as fault:
            self._failed_in_a_row = 0
            if str(fault) in {f"HTTP {status}" for status in GONE}:
                write_bytes(gone, str(fault).encode())
            raise
        self._failed_in_a_row = 0
        write_bytes(self._path(url), content)
        self._count(fetched=1, bytes=len(content))

    def _get(self, url: str) -> bytes:
        for _ in range(self.config.redirects + 1):
            self._check(url)
            host = parse_url(url).netloc or ""
            with self._politeness.turn(host):
                found = self._ask(url, host)
            if isinstance(found, bytes):
                return found
            url = found
        raise BadFile("too many redirects")

    def _ask(self, url: str, host: str) -> bytes | str:
        """The content, or where it is said to be."""
        try:
            response = self._pool.request("GET", url, preload_content=False, redirect=False, retries=False)
        except LocationValueError:
            raise BadFile("no valid address") from None
        except HTTPError as error:
            raise _Passing(_reason(error)) from None
        try:
            where = response.headers.get("Location")
            if response.status not in REDIRECTS or not where:
                return self._read(response)
            return urljoin(url, where)
        except _Passing as fault:
            self._politeness.hold_off(host, min(fault.after, LONGEST_PAUSE))
            raise
        finally:
            response.close()

    def _check(self, url: str) -> None:
        """Refuses other schemes and, before anything is sent, hosts that are not public."""
        try:
            parts = parse_url(url)
        except LocationValueError:
            raise BadFile("no valid address") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise BadFile("neither http nor https")
        if self.config.allow_private:
            return
        try:
            found = socket.getaddrinfo(parts.host.strip("[]"), parts.port or 0, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise _Passing("unknown host") from None
        for *_, address in found:
            refuse_private(str(address[0]))

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        if response.status in TRANSIENT:
            after = response.headers.get("Retry-After", "")
            raise _Passing(f"HTTP {response.status}", float(after) if after.isdecimal() else 0.0)
        if response.status != 200:
            raise BadFile(f"HTTP {response.status}")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > self.max_bytes:
            raise BadFile("too many bytes")
        deadline = time.monotonic() + self.config.seconds
        content = bytearray()
        try:
            while part := response.read1(BLOCK, decode_content=False):
                content += part
                if len(content) > self.max_bytes:
                    raise BadFile("too many bytes")
                if time.monotonic() > deadline:
                    raise _Passing("too slow")
        except HTTPError as error:
            raise _Passing(_reason(error)) from None
        if not content:
            raise BadFile("empty file")
        return bytes(content)

    def _wait(self, state: RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        pause = self.config.pause * 2 ** (state.attempt_number - 1)
        return min(LONGEST_PAUSE, max(pause, getattr(fault, "after", 0.0)))

    def _note_failure(self, url: str, reason: str) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            failed = self._failed_in_a_row
        if failed >= self.config.give_up_after:
            raise UpstreamError(
                f"{failed} downloads of pictures in a row failed, the last of {url} ({reason}); check the network, and "
                f"start the same command again: what has come is in {self.cache}"
            )

    def _count(self, **more: int) -> None:
        with self._lock:
            self.counts.update(more)


def _reason(error: HTTPError) -> str:
    """A few words to count by; addresses and ports in messages would make each of them another reason."""
    name = type(error).__name__
    known = {
        "NewConnectionError": "no connection",
        "NameResolutionError": "unknown host",
        "ConnectTimeoutError": "too slow",
        "ReadTimeoutError": "too slow",
        "IncompleteRead": "cut short",
        "SSLError": "no valid certificate",
    }
    return known.get(name) or ("cut short" if "IncompleteRead" in str(error) else "connection lost")
