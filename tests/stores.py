"""One embedded store for all tests that need one: xdist's workers share it, and the last one stops it."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modalrec.artifacts.embedded import EmbeddedStore


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[EmbeddedStore]:
    base = tmp_path_factory.getbasetemp()
    with EmbeddedStore((base if worker_id == "master" else base.parent) / "embedded") as store:
        yield store


@pytest.fixture
def store_env(embedded: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> EmbeddedStore:
    for name, value in embedded.env().items():
        monkeypatch.setenv(name, value)
    return embedded


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A folder in the bucket that no other test uses."""
    return f"s3://modalrec/{abs(hash(request.node.nodeid)):x}"


class Revived:
    """Kills a store's server and begins it again; give back by `stop` what was begun."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.begun: list[EmbeddedStore] = []
        self._waiting: list[threading.Timer] = []

    def env(self) -> dict[str, str]:
        """The address and keys of the server, which is begun again where it does not run."""
        self.begun.append(EmbeddedStore(self.store.folder))
        self.begun[-1].start()
        return self.begun[-1].env()

    def kill(self) -> None:
        """SIGKILL, to the server that runs now."""
        os.kill(json.loads((self.store.folder / "server.json").read_bytes())["pid"], signal.SIGKILL)

    def revive(self, after: float = 0.0) -> None:
        """Begins it again, at once or after some seconds, on the same ports."""
        self.begun.append(EmbeddedStore(self.store.folder))
        if after:
            self._waiting.append(threading.Timer(after, self.begun[-1].start))
            self._waiting[-1].start()
        else:
            self.begun[-1].start()

    def stop(self) -> None:
        """Gives back all that was begun, so that the last user stops the server."""
        for timer in self._waiting:
            timer.join()
        for store in self.begun:
            store.stop()


@contextmanager
def revived(store: EmbeddedStore) -> Iterator[Revived]:
    """The means to kill a store's server and to begin it again, for a while."""
    found = Revived(store)
    try:
        yield found
    finally:
        found.stop()
