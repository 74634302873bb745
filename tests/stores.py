"""One embedded store for all tests that need one: xdist's workers share it, and the last one stops it."""

from collections.abc import Iterator

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
