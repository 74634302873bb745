"""A store that fails: bounded retries, then one error that names bucket and key; never a partial or wrong artifact.

Every fault is made by a proxy before the real embedded store.
"""

import io
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modalrec.artifacts import s3
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.s3 import Store
from modalrec.artifacts.store import BucketLocation
from modalrec.errors import UpstreamError
from modalrec.run import Run
from modalrec.testing.faults import Fault, FaultServer, faulty
from modalrec.training.checkpoint import Checkpoints

CONTENT = bytes(range(256)) * 400
STEP = {"step": 1, "weights": torch.arange(999.0)}


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
    "a byte now and then": Fault("drip", seconds=600),
}


@pytest.mark.fault("store")
@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_of_a_download_is_overcome(
    name: str, embedded: EmbeddedStore, uri: str, tmp_path: Path
) -> None:
    with faulty(embedded.endpoint, Fault(**{**vars(FAULTS[name]), "times": 2, "path": "codes.parquet"})) as server:
        through(server, embedded).get_folder(uri, tmp_path / "codes")
        assert sum(line.startswith("GET") and "codes.parquet" in line for line in server.requests) == 3
    assert (tmp_path / "codes" / "codes.parquet").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["codes"]


@pytest.mark.fault("store")
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


@pytest.mark.fault("store")
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


@pytest.mark.fault("store")
def test_an_upload_that_fails_for_good_leaves_no_manifest(embedded: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    (tmp_path / "zebra").write_bytes(CONTENT)
    (tmp_path / "manifest.json").write_text("{}")
    embedded.store().put_folder(tmp_path, prefix)
    fault = Fault("status", status=500, method="PUT", path="zebra", times=-1)
    message = r"zebra: the store at .* fails, 3 attempts"
    with faulty(embedded.endpoint, fault) as server, pytest.raises(UpstreamError, match=message):
        through(server, embedded).put_folder(tmp_path, prefix)
    assert "manifest.json" not in embedded.store().names(prefix), "a reader sees that it is not whole"


@pytest.mark.fault("store")
def test_listing_is_retried_too(embedded: EmbeddedStore, uri: str) -> None:
    faults = [Fault("status", status=503, path="list-type"), Fault("empty", path="list-type")]
    with faulty(embedded.endpoint, *faults) as server:
        assert through(server, embedded).names(uri) == ["codes.parquet", "manifest.json"]


@pytest.mark.fault("store")
def test_what_is_refused_or_missing_is_not_asked_again(embedded: EmbeddedStore, uri: str) -> None:
    with faulty(embedded.endpoint) as server:
        assert not through(server, embedded).exists(f"{uri}/nothing")
        assert len(server.requests) == 1
        server.faults = [Fault("status", status=403, method="HEAD", times=-1)]
        with pytest.raises(UpstreamError, match="refuses these keys"):
            through(server, embedded).get_bytes(f"{uri}/manifest.json")
        assert len(server.requests) == 2


@pytest.mark.fault("store")
@pytest.mark.parametrize("name", ["200 with an empty body", "half a body as if it were whole"])
def test_what_others_have_stored_is_held_to_its_size(name: str, embedded: EmbeddedStore, prefix: str) -> None:
    """Raw data that another program put there has no digest of ours."""
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    embedded.store()._client.put_object(bucket, f"{key}/raw", io.BytesIO(CONTENT), len(CONTENT))
    with faulty(embedded.endpoint, again(FAULTS[name], -1, method="GET", path="raw")) as server:
        with pytest.raises(UpstreamError, match=f"bytes came instead of {len(CONTENT)}"):
            through(server, embedded).get_bytes(f"{prefix}/raw")
        server.faults = []
        assert through(server, embedded).get_bytes(f"{prefix}/raw") == CONTENT


WAYS = ("bytes", "names", "exists", "put", "create")


def ask(how: str, store: Store, uri: str) -> object:
    """Asks in one of the ways."""
    if how in ("put", "create"):
        return getattr(store, f"{how}_bytes")(f"{uri}/new", CONTENT)
    if how == "names":
        return store.names(uri)
    return getattr(store, {"bytes": "get_bytes", "exists": "exists"}[how])(f"{uri}/codes.parquet")


@pytest.mark.fault("store")
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("status", [301, 307, 403])
def test_what_no_attempt_can_mend_is_told_at_once(how: str, status: int, embedded: EmbeddedStore, uri: str) -> None:
    told = {403: "refuses these keys"}.get(status, "sends this bucket's requests elsewhere .* set AWS_REGION")
    methods = ("GET", "PUT", "HEAD")
    faults = [Fault("status", status=status, method=method, times=-1) for method in methods]
    with faulty(embedded.endpoint, *faults) as server:
        store = through(server, embedded)
        with pytest.raises(UpstreamError, match=rf"^{uri}.*the store at {server.url} {told}"):
            ask(how, store, uri)
        assert len(server.requests) == 1


@pytest.mark.fault("store")
@pytest.mark.parametrize("how", WAYS)
def test_a_page_that_a_proxy_answers_is_no_object(how: str, embedded: EmbeddedStore, uri: str) -> None:
    faults = [Fault("page", method=method, times=-1) for method in ("GET", "PUT", "HEAD")]
    with faulty(embedded.endpoint, *faults) as server:
        bounded(lambda: ask(how, through(server, embedded), uri), server.url, uri)


@pytest.mark.fault("store")
@pytest.mark.parametrize("passing", [True, False], ids=["passing", "lasting"])
def test_what_only_one_can_create_is_there_when_it_is_said(passing: bool, embedded: EmbeddedStore, prefix: str) -> None:
    """A lease that a proxy has swallowed is none."""
    with faulty(embedded.endpoint, Fault("lost", method="PUT", times=1 if passing else -1)) as server:
        if passing:
            assert through(server, embedded).create_bytes(f"{prefix}/lease", CONTENT)
            assert embedded.store().get_bytes(f"{prefix}/lease") == CONTENT
        else:
            bounded(lambda: through(server, embedded).create_bytes(f"{prefix}/lease", CONTENT), server.url, prefix)


@pytest.mark.fault("store")
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


@pytest.mark.fault("store")
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


READS = ("bytes", "file", "names", "checkpoint", "get")
SENDS = ("bytes", "file", "folder", "checkpoint")
ASKS = ("exists", "delete")
OF_SENDING = {
    **{name: FAULTS[name] for name in ("500", "503", "429", "connection reset", "no answer")},
    "lost": Fault("lost"),
    "cut half way": Fault("cut"),
}
OF_ASKING = ("500", "503", "429", "connection reset", "no answer")


def checkpoints(store: Store, uri: str) -> Checkpoints:
    found = Checkpoints(Run("quantize", quiet=True), "f" * 64)
    found.location = BucketLocation(store, uri)
    return found


@pytest.fixture
def stored(embedded: EmbeddedStore, uri: str) -> str:
    """The folder, and a checkpoint below it."""
    checkpoints(embedded.store(), f"{uri}/steps").save(1, 0, STEP)
    return uri


def read(how: str, store: Store, uri: str, folder: Path) -> bool:
    """Reads in one of the ways; whether what came is what was stored."""
    if how == "bytes":
        return store.get_bytes(f"{uri}/codes.parquet") == CONTENT
    if how == "file":
        store.get_file(f"{uri}/codes.parquet", folder / "codes.parquet")
        return (folder / "codes.parquet").read_bytes() == CONTENT
    if how == "names":
        return store.names(f"{uri}/steps")[0].startswith("step-0000000001")
    if how == "checkpoint":
        found = checkpoints(store, f"{uri}/steps").load()
        return found is not None and torch.equal(found["weights"], STEP["weights"])
    store.get(f"{uri}/codes.parquet", folder / "codes.parquet")
    return (folder / "codes.parquet").read_bytes() == CONTENT


def send(how: str, store: Store, uri: str, folder: Path) -> None:
    """Stores in one of the ways."""
    if how == "bytes":
        store.put_bytes(f"{uri}/new", CONTENT)
    elif how == "checkpoint":
        checkpoints(store, uri).save(1, 0, STEP)
    else:
        (folder / "new").write_bytes(CONTENT)
        store.put_file(folder / "new", f"{uri}/new") if how == "file" else store.put_folder(folder, uri)


def again(fault: Fault, times: int, **fields: str) -> Fault:
    return Fault(**{**vars(fault), "times": times, **fields})


def bounded(work: Callable[[], object], url: str, place: str) -> None:
    """Asks three times, then says which object of which store it is."""
    with pytest.raises(UpstreamError) as error:
        work()
    assert str(error.value).startswith(place)
    assert f"the store at {url}" in str(error.value)
    assert "3 attempts" in str(error.value)


@pytest.mark.fault("store")
@pytest.mark.parametrize("times", [1, -1], ids=["passing", "lasting"])
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("how", READS)
def test_reading(how: str, name: str, times: int, embedded: EmbeddedStore, stored: str, tmp_path: Path) -> None:
    part = {"names": "list-type", "checkpoint": "step-"}.get(how, "codes.parquet")
    with faulty(embedded.endpoint, again(FAULTS[name], times, method="GET", path=part)) as server:
        if times > 0:
            assert read(how, through(server, embedded, attempts=6), stored, tmp_path)
            return
        bounded(lambda: read(how, through(server, embedded), stored, tmp_path), server.url, stored)
    assert list(tmp_path.iterdir()) == [], "nothing half-read"


@pytest.mark.fault("store")
@pytest.mark.parametrize("times", [1, -1], ids=["passing", "lasting"])
@pytest.mark.parametrize("name", OF_SENDING)
@pytest.mark.parametrize("how", SENDS)
def test_sending(how: str, name: str, times: int, embedded: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    plain = embedded.store()
    with faulty(embedded.endpoint, again(OF_SENDING[name], times, method="PUT")) as server:
        if times > 0:
            send(how, through(server, embedded, attempts=6), prefix, tmp_path)
        else:
            bounded(lambda: send(how, through(server, embedded), prefix, tmp_path), server.url, prefix)
    if times < 0:
        assert plain.names(prefix) == [], "nothing half-sent"
    elif how == "checkpoint":
        found = checkpoints(plain, prefix).load()
        assert found is not None
        assert torch.equal(found["weights"], STEP["weights"])
    else:
        assert plain.get_bytes(f"{prefix}/new") == CONTENT


@pytest.mark.fault("store")
@pytest.mark.parametrize("times", [1, -1], ids=["passing", "lasting"])
@pytest.mark.parametrize("name", OF_ASKING)
@pytest.mark.parametrize("how", ASKS)
def test_asking(how: str, name: str, times: int, embedded: EmbeddedStore, stored: str) -> None:
    key = f"{stored}/codes.parquet"
    method = {"exists": "HEAD", "delete": "DELETE"}[how]
    with faulty(embedded.endpoint, again(FAULTS[name], times, method=method)) as server:
        if times < 0:
            bounded(lambda: getattr(through(server, embedded), how)(key), server.url, key)
            assert embedded.store().exists(key)
        else:
            assert getattr(through(server, embedded, attempts=6), how)(key) is (True if how == "exists" else None)
    if times > 0:
        assert embedded.store().exists(key) == (how == "exists")


@pytest.mark.guard("store")
def test_without_its_pace_a_drip_is_waited_for(
    embedded: EmbeddedStore, stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = f"{stored}/short"
    embedded.store().put_bytes(short, CONTENT[:20])
    with faulty(embedded.endpoint, Fault("drip", seconds=2, times=-1, path="short")) as server:
        with pytest.raises(UpstreamError, match=r"does not answer, 3 attempts .*bytes in"):
            through(server, embedded).get_bytes(short)
        monkeypatch.setattr("modalrec.artifacts.pace.LEAST", 0)
        assert through(server, embedded).get_bytes(short) == CONTENT[:20]


@pytest.mark.guard("store")
def test_without_the_digest_a_flipped_bit_passes(
    embedded: EmbeddedStore, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_digest_of", lambda stored: None)
    with faulty(embedded.endpoint, Fault("corrupt", path="codes.parquet")) as server:
        assert not read("bytes", through(server, embedded), stored, tmp_path)


@pytest.mark.guard("store")
@pytest.mark.parametrize("name", ["503", "connection reset", "200 with an empty body"])
def test_without_retries_a_passing_fault_is_an_error(
    name: str, embedded: EmbeddedStore, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "is_transient", lambda error: False)
    with (
        faulty(embedded.endpoint, again(FAULTS[name], 1, path="codes.parquet")) as server,
        pytest.raises(UpstreamError),
    ):
        read("bytes", through(server, embedded), stored, tmp_path)
