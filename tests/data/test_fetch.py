"""Files from a server on loopback that breaks off, refuses and changes its mind; and the registry of public sets."""

import hashlib
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modalrec.data.fetch import FetchConfig, Fetcher
from modalrec.data.public_sets import CATEGORY, PublicSet, RemoteFile, find_set, public_sets
from modalrec.data.sources import Source
from modalrec.errors import ConfigError, DataError, UpstreamError
from modalrec.plugins import discover
from modalrec.run import Run
from modalrec.testing.faults import running

BODY = bytes(range(256)) * 4000
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
FAST = FetchConfig(attempts=3, breaks=5, pause=0, seconds=5)


class Server(ThreadingHTTPServer):
    """Sends `BODY`, in ranges where asked; `cuts` break a body off after so many bytes, `statuses` come before it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.ranges: list[str | None] = []
        self.cuts: list[int] = []
        self.statuses: list[int] = []
        self.body, self.tag = BODY, '"one"'
        self.takes_ranges = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the plan."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        same = self.headers.get("If-Range") == server.tag
        first = int(asked[6:-1]) if asked and same and server.takes_ranges else 0
        if first and first >= len(server.body):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = server.body[first:]
        self.send_response(206 if first else 200)
        self.send_header("ETag", server.tag)
        self.send_header("Content-Length", str(len(rest)))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.body) - 1}/{len(server.body)}")
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(rest)
        self.wfile.write(rest[:cut])
        if cut < len(rest):
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    with running(found):
        yield found


def fetch(server: Server, folder: Path, md5: str | None = MD5, config: FetchConfig = FAST) -> bool:
    file = RemoteFile(url=f"{server.url}/data.bin", md5=md5)
    return Fetcher(config, Run("download", quiet=True)).fetch(file, folder)


def test_a_file_comes_whole_and_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert not fetch(server, tmp_path)
    assert server.ranges == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["data.bin"]


def test_a_body_that_breaks_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 200_000]
    fetch(server, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-", "bytes=300000-"]


def test_a_second_run_goes_on_where_the_first_was_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(UpstreamError, match="cannot be reached"):
        fetch(server, tmp_path, config=FAST.model_copy(update={"breaks": 0}))
    assert (tmp_path / "data.bin.part").stat().st_size == 100_000
    assert not (tmp_path / "data.bin").exists()
    fetch(server, tmp_path)
    assert server.ranges[-1] == "bytes=100000-"
    assert (tmp_path / "data.bin").read_bytes() == BODY


@pytest.mark.parametrize("why", ["changed", "no ranges"])
def test_it_begins_anew_where_the_rest_would_not_fit(why: str, server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000]
    with pytest.raises(UpstreamError):
        fetch(server, tmp_path, config=FAST.model_copy(update={"breaks": 0}))
    if why == "changed":
        server.body, server.tag = BODY[::-1], '"two"'
    server.takes_ranges = why == "changed"
    fetch(server, tmp_path, md5=None)
    assert (tmp_path / "data.bin").read_bytes() == server.body


def test_more_here_than_there_is_begins_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(BODY + b"more")
    (tmp_path / "data.bin.part.json").write_text('{"mark": "\\"one\\""}')
    fetch(server, tmp_path)
    assert (tmp_path / "data.bin").read_bytes() == BODY


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    fetch(server, tmp_path)
    assert len(server.ranges) == 3
    server.statuses = [404]
    with pytest.raises(UpstreamError, match=r"HTTP 404; its publisher may have moved it.*by hand"):
        fetch(server, tmp_path / "other")
    assert len(server.ranges) == 4


def test_another_content_than_the_publisher_says_is_refused(server: Server, tmp_path: Path) -> None:
    server.body = BODY[:-1] + b"x"
    with pytest.raises(DataError, match=f"publisher says {MD5}; start the same command again"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data.bin").write_bytes(b"mine")
    with pytest.raises(DataError, match="remove it, and start"):
        fetch(server, tmp_path)


def test_offline_it_says_what_can_be_done_by_hand(tmp_path: Path) -> None:
    file = RemoteFile(url="http://127.0.0.1:9/ml.zip")
    with pytest.raises(
        UpstreamError, match=r"127.0.0.1:9: cannot be reached.*fetch http://127.0.0.1:9/ml.zip elsewhere"
    ):
        Fetcher(FAST, Run("download", quiet=True)).fetch(file, tmp_path)


def test_a_disk_that_is_too_small_is_found_first(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("modalrec.data.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="1,000 bytes are free, and 1,024,000 are to come"):
        fetch(server, tmp_path)


@pytest.mark.parametrize("name", public_sets())
def test_every_set_is_whole(name: str) -> None:
    one = public_sets()[name]
    assert len(one.licence) > 40
    assert one.page.startswith("https://")
    for category in one.categories[:1] or [None]:
        for file in one.files_of(category, name):
            assert file.url.startswith("https://")
            assert CATEGORY not in file.url
            assert file.name
            assert file.md5 is None or len(file.md5) == 32


def test_sets_are_read_by_a_source_that_there_is(tmp_path: Path) -> None:
    """What a set's files are called is what a source looks for."""
    sources: dict[str, type[Source]] = discover("sources")
    assert {"movielens", "amazon", "microlens", "sessions"} <= set(sources)
    years = {"2014": "reviews_Beauty_5.json.gz", "2018": "All_Beauty_5.json.gz", "2023": "All_Beauty.jsonl.gz"}
    for year, reviews in years.items():
        category = "Beauty" if year == "2014" else "All_Beauty"
        names = [file.name for file in find_set(f"amazon-{year}").files_of(category, "amazon")]
        assert names[0] == reviews
        assert names[1].startswith(f"meta_{category}.json")


def test_what_is_meant_is_said() -> None:
    with pytest.raises(ConfigError, match="did you mean ml-25m"):
        find_set("ml-25")
    with pytest.raises(ConfigError, match="'Babby': unknown; did you mean Baby"):
        find_set("amazon-2014").files_of("Babby", "amazon-2014")
    with pytest.raises(ConfigError, match="missing; amazon-2014 has Apps"):
        find_set("amazon-2014").files_of(None, "amazon-2014")
    with pytest.raises(ConfigError, match="ml-1m has no categories"):
        find_set("ml-1m").files_of("Baby", "ml-1m")
    with pytest.raises(ValueError, match="both files and a way by hand, or neither"):
        PublicSet(title="t", licence="l", page="p", checked="c")
