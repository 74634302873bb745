"""The command of the manifest, run here: it serves who has the keys, and nothing but S3 to others."""

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from modalrec.artifacts.embedded import find_weed
from modalrec.artifacts.store import Store
from modalrec.errors import ModalrecError, UpstreamError
from tests.manifests.rendering import with_components

PORTS = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc")
PORTS += ("filer.port", "filer.port.grpc")


def free_ports(count: int) -> list[int]:
    places = [socket.socket() for _ in range(count)]
    for place in places:
        place.bind(("127.0.0.1", 0))
    found = [int(place.getsockname()[1]) for place in places]
    for place in places:
        place.close()
    return found


def test_the_command_of_the_manifest_starts_a_store_with_keys(tmp_path: Path) -> None:
    objects = with_components(["seaweedfs"], tmp_path)
    pod = next(thing for thing in objects if thing["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    (tmp_path / "data").mkdir()
    weed, *given = container["command"]
    assert weed == "weed"
    kept = [word for word in given if not word.startswith(("-dir=", "-s3.port="))]
    moved = [f"-dir={tmp_path / 'data'}", *(f"-{name}={port}" for name, port in ports.items())]
    keys = {"accesskey": "reader", "secretkey": "a-long-secret"}
    secrets = {
        one["name"]: keys[one["valueFrom"]["secretKeyRef"]["key"]] for one in container["env"] if "valueFrom" in one
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | secrets
    process = subprocess.Popen(
        [str(find_weed()), *kept, *moved], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        address = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}"}
        store = Store.from_env(address | secrets, attempts=1)
        place, deadline = "s3://mlpipeline/x", time.monotonic() + 60
        while True:
            try:
                store.ensure_bucket(place)
                store.put_bytes(place, b"1")
                break
            except ModalrecError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert store.get_bytes(place) == b"1"
        stranger = Store.from_env({**address, **secrets, "AWS_SECRET_ACCESS_KEY": "another-secret"}, attempts=1)
        with pytest.raises(UpstreamError):
            stranger.put_bytes(place, b"2")
        assert store.get_bytes(place) == b"1"
        open_to_all = [name for name, port in ports.items() if listens_everywhere(port)]
        assert "filer.port" not in open_to_all
        assert set(open_to_all) <= {"s3.port", "s3.port.grpc"}
    finally:
        process.kill()  # it takes its time to end otherwise
        process.wait(20)
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108 -- where weed puts and forgets them
                left.unlink(missing_ok=True)


def listens_everywhere(port: int) -> bool:
    """Whether a port answers at another of this machine's addresses than the first loopback one."""
    with socket.socket() as place:
        place.settimeout(1)
        return place.connect_ex(("127.0.0.2", port)) == 0
