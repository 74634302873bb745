"""Downloads against a server on loopback that fails in every way it can."""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from modalrec.data.archives import BadFile
from modalrec.data.downloads import DownloadConfig, Downloads
from modalrec.data.public_hosts import refuse_private
from modalrec.errors import UpstreamError
from modalrec.testing.faults import running

BODY = bytes(range(256)) * 200


class Server(ThreadingHTTPServer):
    """Answers by the path: `/ok`, `/status/404`, `/busy/2` (503 twice), `/cut`, `/hop/3`, `/to/URL`, ..."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.seen: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the plan."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, path = self.server, urlsplit(self.path).path
        with server.lock:
            server.seen[path] += 1
            count = server.seen[path]
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
        _, kind, *rest = path.split("/", 2)
        threading.Event().wait(0.02)
        with server.lock:
            server.at_once -= 1
        if kind == "status":
            self.reply(int(rest[0]))
        elif kind == "busy":
            self.reply(503 if count <= int(rest[0]) else 200, **{"Retry-After": "0"})
        elif kind == "hop":
            number = int(rest[0])
            self.reply(302 if number else 200, Location=f"/hop/{number - 1}")
        elif kind == "to":
            self.reply(302, Location=rest[0])
        elif kind == "cut" or (kind == "cutonce" and count == 1):
            self.reply(200, BODY[:1000], length=len(BODY))
        elif kind == "reset":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif kind == "drip":
            self.reply(200, b"", length=100)
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    threading.Event().wait(0.05)
        elif kind == "hang":
            threading.Event().wait(1.5)
        elif kind == "announced":
            self.reply(200, b"x", length=1 << 40)
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(BODY)
        elif kind == "empty":
            self.reply(200, b"")
        else:
            self.reply(200)

    def reply(self, status: int, body: bytes = BODY, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


def downloads(cache: Path, max_bytes: int = 1 << 20, **settings: Any) -> Downloads:
    settings = {"allow_private": True, "pause": 0.0, "seconds": 1, **settings}
    return Downloads(DownloadConfig(**settings), cache / "cache", max_bytes)


def fetch(cache: Path, *urls: str | None, **settings: Any) -> list[Any]:
    """Contents, or the reasons why there are none."""
    found = downloads(cache, **settings).contents(urls)
    return [str(one) if isinstance(one, BadFile) else one for one in found]


def test_contents_come_in_order_and_nothing_twice(server: Server, tmp_path: Path) -> None:
    urls = [f"{server.url}/ok/{number % 30}" for number in range(60)]
    source = downloads(tmp_path, workers=3)
    assert list(source.contents([*urls, None, urls[0]])) == [BODY] * 60 + [None, BODY]
    assert set(server.seen.values()) == {1}
    assert server.most_at_once <= 3
    assert source.counts["fetched"] == 30
    assert source.counts["bytes"] == 30 * len(BODY)
    again = downloads(tmp_path)
    assert list(again.contents(urls)) == [BODY] * 60
    assert set(server.seen.values()) == {1}
    assert "fetched" not in again.counts


def test_an_interrupted_run_goes_on(server: Server, tmp_path: Path) -> None:
    urls = [f"{server.url}/ok/{number}" for number in range(200)]
    contents = downloads(tmp_path, workers=2).contents(urls)
    assert [next(contents) for _ in range(3)] == [BODY] * 3
    contents.close()
    done = sum(server.seen.values())
    assert done < 100, "little is fetched ahead"
    assert fetch(tmp_path, *urls) == [BODY] * 200
    assert set(server.seen.values()) == {1}


@pytest.mark.parametrize(
    ("path", "reason", "asked"),
    [
        ("status/404", "HTTP 404", 1),
        ("status/403", "HTTP 403", 1),
        ("status/500", "HTTP 500", 3),
        ("cut", "cut short", 3),
        ("reset", "connection lost", 3),
        ("drip", "too slow", 3),
        ("hang", "too slow", 3),
        ("announced", "too many bytes", 1),
        ("empty", "empty file", 1),
        ("endless", "too many bytes", 1),
        ("hop/4", "too many redirects", 1),
        ("to/ftp://127.0.0.1/x", "neither http nor https", 1),
        ("to/file:///etc/passwd", "neither http nor https", 1),
    ],
)
def test_what_cannot_be_had_is_a_reason(server: Server, tmp_path: Path, path: str, reason: str, asked: int) -> None:
    assert fetch(tmp_path, f"{server.url}/{path}", attempts=3) == [reason]
    assert server.seen[f"/{path}"] == asked
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".gone"]


@pytest.mark.parametrize("path", ["busy/2", "hop/3", "cutonce", "to//ok"])
def test_what_passes_or_leads_on_is_followed(server: Server, tmp_path: Path, path: str) -> None:
    assert fetch(tmp_path, f"{server.url}/{path}", attempts=3) == [BODY]


@pytest.mark.parametrize(
    "url", ["ftp://example.org/x", "file:///etc/passwd", "x.jpg", "http://", "http://[::1/x", "data:,x"]
)
def test_addresses_of_another_kind_are_refused(tmp_path: Path, url: str) -> None:
    assert fetch(tmp_path, url)[0] in ("neither http nor https", "no valid address")


def test_what_is_gone_is_noted_and_what_failed_in_passing_is_asked_again(server: Server, tmp_path: Path) -> None:
    urls = [f"{server.url}/status/410", f"{server.url}/busy/2"]
    assert fetch(tmp_path, *urls, attempts=1) == ["HTTP 410", "HTTP 503"]
    assert fetch(tmp_path, *urls, attempts=2) == ["HTTP 410", BODY]
    assert server.seen["/status/410"] == 1


def test_the_limit_of_bytes_holds_by_the_header_and_for_the_cache(server: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, f"{server.url}/ok", max_bytes=len(BODY) - 1) == ["too many bytes"]
    assert fetch(tmp_path, f"{server.url}/ok", max_bytes=len(BODY)) == [BODY]
    assert fetch(tmp_path, f"{server.url}/ok", max_bytes=10) == ["too many bytes"]


def test_hosts_that_are_not_public_are_not_asked(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        fetch(tmp_path, f"{server.url}/ok", "http://localhost:1/", "http://[::1]:1/", allow_private=False)
        == ["not a public host"] * 3
    )
    # A name that has a public address when it is checked and a private one when it is asked.
    public = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 0))]
    asked = []
    real = socket.getaddrinfo

    def turn(host: str, port: int, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return public if len(asked) == 1 else real("127.0.0.1", port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", turn)
    port = urlsplit(server.url).port
    assert fetch(tmp_path, f"http://rebinding.example:{port}/ok", allow_private=False) == ["not a public host"]
    assert len(asked) == 2
    assert not server.seen


PRIVATE = """
127.0.0.1 10.1.2.3 169.254.169.254 192.168.0.1 100.64.0.1 0.0.0.0 224.0.0.1 255.255.255.255
::1 :: fe80::1%eth0 fd00::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ff0e::1
"""


@pytest.mark.parametrize("address", PRIVATE.split())
def test_addresses_that_are_not_public(address: str) -> None:
    with pytest.raises(BadFile, match="not a public host"):
        refuse_private(address)


def test_public_addresses() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"):
        refuse_private(address)


def test_a_network_that_is_down_stops_the_run(server: Server, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
    urls = [f"{dead}/{number}" for number in range(100)]
    with pytest.raises(UpstreamError, match=r"5 downloads of pictures in a row failed, .*no connection.*is in "):
        fetch(tmp_path, f"{server.url}/ok", *urls, attempts=1, give_up_after=5, workers=1)
    mixed = [f"{server.url}/ok/{number}" if number % 4 == 0 else url for number, url in enumerate(urls)]
    found = fetch(tmp_path, *mixed, attempts=1, give_up_after=5, workers=1)
    assert Counter(map(type, found)) == {bytes: 25, str: 75}
