import io
import socket
import time
from pathlib import Path

import pytest

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.s3 import Store
from modalrec.errors import UpstreamError
from modalrec.testing.faults import Fault, FaultServer, faulty

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def uri(embedded: EmbeddedStore, prefix: str) -> str:
    embedded.store().put_bytes(f"{prefix}/codes/codes.parquet", CONTENT)
    embedded.store().put_bytes(f"{prefix}/codes/manifest.json", b"{}")
    return f"{prefix}/codes"


def through(server: FaultServer, embedded: EmbeddedStore, attempts: int = 3) -> Store:
    env = {**embedded.env(), "AWS_ENDPOINT_URL": server.url}
    return Store.from_env(env, attempts=attempts, connect_seconds=1, read_seconds=0.5, backoff_seconds=0.02)


FAULTS = {
    "500": Fault("status", status=500),
    "503": Fault("status", status=503),
    "429": Fault("status", status=429),
    "200 with an empty body": Fault("empty"),
    "connection lost in the body": Fault("truncate"),
    "half a body as if it were whole": Fault("short"),
    "a flipped bit": Fault("corrupt"),
    "connection reset": Fault("reset"),
    "no answer": Fault("hang", seconds=0.8),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_of_a_download_is_overcome(
    name: str, embedded: EmbeddedStore, uri: str, tmp_path: Path
) -> None:
    with faulty(embedded.endpoint, Fault(**{**vars(FAULTS[name]), "times": 2, "path": "codes.parquet"})) as server:
        through(server, embedded).get_folder(uri, tmp_path / "codes")
        assert sum(line.startswith("GET") and "codes.parquet" in line for line in server.requests) == 3
    assert (tmp_path / "codes" / "codes.parquet").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_lasting_fault_of_a_download_is_one_error_and_leaves_nothing(
    name: str, embedded: EmbeddedStore, uri: str, tmp_path: Path
) -> None:
    begin = time.monotonic()
    fault = Fault(**{**vars(FAULTS[name]), "times": -1, "path": "codes.parquet"})
    with faulty(embedded.endpoint, fault) as server, pytest.raises(UpstreamError) as error:
        through(server, embedded).get_folder(uri, tmp_path / "codes")
    assert f"{uri}/codes.parquet: the store at {server.url}" in str(error.value)
    assert "3 attempts" in str(error.value)
    assert "again" in str(error.value), "the next step"
    assert time.monotonic() - begin < 15
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, method="PUT"),
        Fault("reset", method="PUT"),
        Fault("lost", method="PUT"),
        Fault("hang", method="PUT", seconds=0.8),
        Fault("status", status=500, method="HEAD"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}",
)
def test_an_upload_is_repeated_until_the_store_has_it(fault: Fault, embedded: EmbeddedStore, prefix: str) -> None:
    with faulty(embedded.endpoint, Fault(**{**vars(fault), "times": 1})) as server:
        through(server, embedded).put_bytes(f"{prefix}/a", CONTENT)
    assert embedded.store().get_bytes(f"{prefix}/a") == CONTENT


def test_an_upload_that_fails_for_good_leaves_no_manifest(embedded: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "zebra").write_bytes(CONTENT)
    (tmp_path / "manifest.json").write_text("{}")
    embedded.store().put_folder(tmp_path, prefix)
    fault = Fault("status", status=500, method="PUT", path="zebra", times=-1)
    message = r"zebra: the store at .* fails, 3 attempts"
    with faulty(embedded.endpoint, fault) as server, pytest.raises(UpstreamError, match=message):
        through(server, embedded).put_folder(tmp_path, prefix)
    assert "manifest.json" not in embedded.store().names(prefix), "a reader sees that it is not whole"


def test_listing_is_retried_too(embedded: EmbeddedStore, uri: str) -> None:
    faults = [Fault("status", status=503, path="list-type"), Fault("empty", path="list-type")]
    with faulty(embedded.endpoint, *faults) as server:
        assert through(server, embedded).names(uri) == ["codes.parquet", "manifest.json"]


def test_what_is_refused_or_missing_is_not_asked_again(embedded: EmbeddedStore, uri: str) -> None:
    with faulty(embedded.endpoint) as server:
        assert not through(server, embedded).exists(f"{uri}/nothing")
        assert len(server.requests) == 1
        server.faults = [Fault("status", status=403, method="HEAD", times=-1)]
        with pytest.raises(UpstreamError, match="refuses these keys"):
            through(server, embedded).get_bytes(f"{uri}/manifest.json")
        assert len(server.requests) == 2


def test_an_unreachable_store_is_one_error(embedded: EmbeddedStore, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    store = Store.from_env({**embedded.env(), "AWS_ENDPOINT_URL": endpoint}, attempts=2)
    with pytest.raises(
        UpstreamError, match=rf"s3://modalrec/a: the store at {endpoint} does not answer.*modalrec doctor"
    ):
        store.get("s3://modalrec/a", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_was_changed_in_the_store_is_noticed(embedded: EmbeddedStore, uri: str, tmp_path: Path) -> None:
    store = embedded.store(attempts=2, backoff_seconds=0.02)
    changed = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    found = store._client.stat_object("modalrec", uri.removeprefix("s3://modalrec/") + "/codes.parquet")
    store._client.put_object(
        "modalrec",
        found.object_name,
        io.BytesIO(changed),
        len(changed),
        metadata={"sha256": found.metadata["x-amz-meta-sha256"]},
    )
    with pytest.raises(UpstreamError, match=r"codes.parquet.*SHA-256.*run the stage that made it again"):
        store.get_folder(uri, tmp_path / "codes")
    assert list(tmp_path.iterdir()) == []
