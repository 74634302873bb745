"""`download` and `download-images` as commands."""

import io
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from modalrec.data.politeness import Politeness
from modalrec.data.public_sets import PublicSet, RemoteFile
from modalrec.testing.faults import running
from tests.cli.conftest import Cli
from tests.data.test_fetch import BODY, MD5, Server

PRIVATE = ("--set", "downloads.allow_private=true", "--set", "downloads.host_pause=0", "--set", "downloads.pause=0")


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    with running(found):
        yield found


@pytest.fixture
def toy(server: Server, monkeypatch: pytest.MonkeyPatch) -> PublicSet:
    files = (RemoteFile(url=f"{server.url}/toy.zip", md5=MD5),)
    terms = "you may do what you like"
    one = PublicSet(title="Toy", licence=terms, page="https://example.org", checked="here", files=files)
    monkeypatch.setattr("modalrec.data.public_sets.public_sets", lambda: {"toy": one})
    return one


def test_the_licence_comes_first_and_must_be_accepted(cli: Cli, toy: PublicSet, server: Server, tmp_path: Path) -> None:
    code, _, err = cli("download", "toy", "--out", tmp_path / "toy")
    assert code == 2
    assert "Licence: you may do what you like" in err
    assert "adds --accept-licence" in err
    assert server.ranges == []
    code, _, err = cli("download", "toy", "--out", tmp_path / "toy", "--accept-licence")
    assert code == 0
    assert err.index("Licence:") < err.index("fetched, its checksum is right")
    assert f"next: modalrec ingest --source {tmp_path / 'toy'}" in err
    assert (tmp_path / "toy" / "toy.zip").read_bytes() == BODY


def test_sets_are_listed_and_those_by_hand_say_how(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("download")
    assert code == 0
    assert {"ml-32m", "amazon-2023", "microlens-mmctr", "yoochoose", "retailrocket", "diginetica"} <= set(out.split())
    code, _, err = cli("download", "retailrocket", "--out", tmp_path, "--accept-licence")
    assert code == 5
    assert "Kaggle asks for an account" in err
    assert f"Put the files into {tmp_path}" in err


class Pictures(BaseHTTPRequestHandler):
    seen: defaultdict[str, int] = defaultdict(int)

    def do_GET(self) -> None:
        self.seen[self.path] += 1
        content, status = b"no picture", 200
        if self.path.startswith("/good"):
            buffer = io.BytesIO()
            Image.new("RGB", (900, 300), "red").save(buffer, "PNG")
            content = buffer.getvalue()
        elif self.path.startswith("/gone"):
            status = 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pictures() -> Iterator[str]:
    Pictures.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    with running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def write_list(path: Path, rows: dict[str, str]) -> Path:
    path.write_text("item_id,url\n" + "".join(f"{item},{url}\n" for item, url in rows.items()))
    return path


def test_pictures_come_by_item_within_limits_and_once(cli: Cli, pictures: str, tmp_path: Path) -> None:
    rows = {f"a{row}": f"{pictures}/good/{row}" for row in range(5)} | {
        "b": f"{pictures}/gone",
        "c": f"{pictures}/text",
    }
    listed = write_list(tmp_path / "list.csv", rows)
    options = ("--urls", listed, "--out", tmp_path / "images", *PRIVATE)
    code, out, err = cli("download-images", *options, "--set", "images.max_bad_share=0.5")
    assert code == 0, err
    assert "fetched=5" in out
    assert "bad=2" in out
    assert "no picture of b: HTTP 404" in err
    with Image.open(tmp_path / "images" / "a3.jpg") as picture:
        assert picture.size == (256, 85)
    before = dict(Pictures.seen)
    code, _, err = cli("download-images", *options)
    assert code == 3, "all that are left are bad"
    assert "2 of 2 pictures are bad (first: b, HTTP 404)" in err
    assert before == dict(Pictures.seen)


def test_hosts_of_the_own_network_are_not_asked(cli: Cli, pictures: str, tmp_path: Path) -> None:
    listed = write_list(tmp_path / "list.csv", {"a": f"{pictures}/good"})
    code, _, err = cli("download-images", "--urls", listed, "--out", tmp_path / "images")
    assert code == 3
    assert "not a public host" in err
    assert not Pictures.seen


def test_lists_that_are_none(cli: Cli, tmp_path: Path) -> None:
    rows = {"../up": "http://x/a", "b": "", "ok": "http://x/b"}
    listed = write_list(tmp_path / "list.csv", rows)
    with listed.open("a") as file:
        file.write("ok,http://x/c\n")
    code, _, err = cli("download-images", "--urls", listed, "--out", tmp_path / "images")
    assert code == 3
    for said in ("row 1: item '../up' cannot name a file", "row 2: item 'b' has no address", "row 4: item 'ok' stands"):
        assert said in err
    listed.write_text("id,address\n")
    code, _, err = cli("download-images", "--urls", listed, "--out", tmp_path / "images")
    assert code == 3
    assert "no column 'item_id'" in err


def test_a_host_sees_few_at_a_time_and_a_pause_between_them() -> None:
    polite, now, most, begun = Politeness(2, 0.05), [0], [0], list[float]()
    lock = threading.Lock()

    def one(host: str) -> None:
        with polite.turn(host):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
                begun.append(time.monotonic())
            time.sleep(0.12)
            with lock:
                now[0] -= 1

    threads = [threading.Thread(target=one, args=("a",)) for _ in range(6)]
    first = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2
    assert all(begin - first > 0.049 * place for place, begin in enumerate(sorted(begun)))
    polite.hold_off("b", 0.2)
    begin = time.monotonic()
    with polite.turn("b"):
        assert time.monotonic() - begin > 0.15
