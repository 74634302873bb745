"""`serve` as a process: it answers, and ends in order when it is told to."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.stages.test_encode_items import KNOWN, MODELS, chain, train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    return train(chain(folder, KNOWN), folder / "model", MODELS["sasrec"])


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def process(model: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    # A batch waits, so that a request is under way when the signal comes.
    words = ["serve", "--model", str(model), "--port", str(port), "--set", "wait_milliseconds=1500"]
    started = subprocess.Popen([sys.executable, "-m", "modalrec", *words], stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    for line in started.stderr:
        if "Uvicorn running" in line:
            break
    threading.Thread(target=started.stderr.read, daemon=True).start()
    yield started, port
    started.kill()
    started.wait()


def test_what_was_asked_before_the_signal_is_answered(process: tuple[subprocess.Popen[str], int]) -> None:
    server, port = process
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    body = json.dumps({"history": ["f1"], "k": 3})
    connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
    time.sleep(0.3)  # it has been read by then, and its batch waits
    os.kill(server.pid, signal.SIGTERM)
    reply = connection.getresponse()
    assert reply.status == 200
    assert len(json.loads(reply.read())["items"]) == 3
    assert server.wait(20) == 128 + signal.SIGTERM


def test_what_cannot_be_served_is_said_before_it_listens(cli: Cli, model: Path, tmp_path: Path) -> None:
    code, _, err = cli("serve", "--model", model, "--set", "max_kk=3")
    assert code == 2
    assert "did you mean max_k" in err
    code, _, err = cli("serve", "--model", model, "--name", "a/b")
    assert code == 2
    assert re.search(r"--name 'a/b': give letters", err)
    code, _, err = cli("serve", "--model", tmp_path)
    assert code == 4
    assert "has no manifest.json" in err


def test_without_its_packages_it_says_what_to_install(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else object())
    code, _, err = cli("serve", "--model", model)
    assert code == 5
    assert "serve: uvicorn is not installed; pip install 'modalrec[serve]'" in err
