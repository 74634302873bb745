"""A trained model, and servers of it: real ones, on loopback, in a thread."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import uvicorn
from fastapi import FastAPI

from modalrec.serving.app import create_app
from modalrec.serving.config import ServeConfig
from modalrec.stages.recommend import Server
from tests.stages.test_encode_items import KNOWN, MODELS, chain, train


@dataclass
class Reply:
    status: int
    body: Any
    headers: Any


@dataclass
class Client:
    """Asks a server and reads JSON."""

    address: str

    def get(self, path: str) -> Reply:
        return self._read(urllib3.request("GET", self.address + path, retries=False, timeout=10))

    def post(self, path: str, body: Any) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        url = self.address + path
        return self._read(urllib3.request("POST", url, body=content, headers=headers, retries=False, timeout=20))

    def _read(self, found: Any) -> Reply:
        is_json = "json" in found.headers.get("Content-Type", "")
        return Reply(found.status, json.loads(found.data) if is_json else found.data.decode(), found.headers)


@contextmanager
def running(app: FastAPI) -> Iterator[Client]:
    """The application behind uvicorn, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    ready = threading.Event()
    startup = server.startup

    async def noted(*args: Any, **more: Any) -> None:
        await startup(*args, **more)
        ready.set()

    server.startup = noted  # type: ignore[method-assign]
    thread.start()
    assert ready.wait(20)
    (socket,) = server.servers[0].sockets
    try:
        yield Client(f"http://127.0.0.1:{socket.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recommender of eight items that knows them by their content."""
    folder = tmp_path_factory.mktemp("served")
    return train(chain(folder, KNOWN), folder / "model", MODELS["sasrec"])


@pytest.fixture(scope="session")
def server(model: Path) -> Server:
    return Server(model)


Serve = Callable[..., Client]


@pytest.fixture
def serve(server: Server) -> Iterator[Serve]:
    """Starts a server with limits; all are stopped in the end."""
    opened = []

    def start(answers: Any = server, **limits: Any) -> Client:
        context = running(create_app(answers, "films", ServeConfig(**limits)))
        opened.append(context)
        return context.__enter__()

    yield start
    for context in opened:
        context.__exit__(None, None, None)
