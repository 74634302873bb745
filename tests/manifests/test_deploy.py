"""What `make deploy` sends: the real kubectl, against a server that keeps what it gets."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.manifests.api import ApiServer
from tests.manifests.rendering import KUBECTL, MANIFESTS, ROOT, render

OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(overlay: str) -> Iterator[ApiServer]:
    kinds = {(thing["apiVersion"], thing["kind"]) for thing in render(MANIFESTS / "overlays" / overlay)}
    with ApiServer(kinds) as server:
        yield server


def apply(server: ApiServer, overlay: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The command of the Makefile; without the schemas of a server, which `test_manifests` validates against."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "/kubectl apply" in line)
    words = line.replace("$(OVERLAY)", overlay).replace('"', "").split()
    command = [str(KUBECTL), *words[1:], "--server", server.address, "--validate=false", "--cache-dir", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def plain(thing: dict[str, Any]) -> str:
    """An object as text, without kubectl's note of what it sent."""
    notes = {name: text for name, text in thing["metadata"].get("annotations", {}).items() if name != APPLIED}
    rest = {name: value for name, value in thing["metadata"].items() if name != "annotations"}
    metadata = {**rest, **({"annotations": notes} if notes else {})}
    return json.dumps({**thing, "metadata": metadata}, sort_keys=True)


def test_an_overlay_is_applied_whole_and_a_second_time_changes_nothing(
    server: ApiServer, overlay: str, tmp_path: Path
) -> None:
    """The namespace comes first: the server refuses what belongs in one that is not there."""
    done = apply(server, overlay, tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = render(MANIFESTS / "overlays" / overlay)
    assert sorted(map(plain, server.objects.values())) == sorted(map(plain, wanted))
    assert done.stdout.count(" created\n") == len(wanted)
    sent = len([method for method, _ in server.requests if method != "GET"])
    again = apply(server, overlay, tmp_path)
    assert again.stdout.count(" unchanged\n") == len(wanted), again.stdout + again.stderr
    assert len([method for method, _ in server.requests if method != "GET"]) == sent


def test_what_the_cluster_refuses_ends_in_an_error(server: ApiServer, overlay: str, tmp_path: Path) -> None:
    server.refused.add("NetworkPolicy")
    done = apply(server, overlay, tmp_path)
    assert done.returncode != 0
    assert "NetworkPolicy is forbidden here" in done.stderr
