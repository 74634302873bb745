"""The doctor: every thing that is missing is named with its next step, and no secret is printed."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.s3 import VARIABLES
from modalrec.doctor import Check
from modalrec.doctor.installed import check_packages
from modalrec.doctor.machine import check_data, check_writable
from modalrec.doctor.services import check_cluster, check_mlflow, check_pipelines, check_store
from modalrec.testing.faults import running
from tests.cli.conftest import Cli, cli
from tests.stores import embedded, store_env

__all__ = ["cli", "embedded", "store_env"]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is set up but what a test sets up."""
    for name in (*VARIABLES, "KF_PIPELINES_ENDPOINT", "KFP_TOKEN", "MLFLOW_TRACKING_URI", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


class Answers(BaseHTTPRequestHandler):
    """As much of Kubeflow Pipelines, MLflow and Kubernetes as says that they are there."""

    groups = ("argoproj.io", "kubeflow.org")
    token = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/apis/v2beta1/healthz", "/health"):
            allowed = self.headers.get("Authorization", "") == (f"Bearer {self.token}" if self.token else "")
            self.answer(200 if allowed else 401, {})
        elif path == "/api":
            self.answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            groups = [{"name": name, "versions": [self.version(name)]} for name in self.groups]
            self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        else:
            self.answer(404, {})

    def version(self, name: str) -> dict[str, str]:
        return {"groupVersion": f"{name}/v1", "version": "v1"}

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Any:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    with running(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_everything_at_once_with_exit_code_and_as_json(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, (NOWHERE, "the-key", "the-secret"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_API_KEY", "the-openai-key")
    code, out, err = cli("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(out)}
    assert code == 1
    assert not re.search(r"the-(secret|key|openai-key)", out + err)
    assert checks["s3 store"]["state"] == "missing"
    assert "127.0.0.1:9 does not answer" in checks["s3 store"]["next_step"]
    for name in ("python", "packages", "torch", "encoder hashing", "temporary files", "home"):
        assert checks[name]["state"] == "ok", checks[name]
    for name in ("encoder huggingface", "kfp endpoint", "kubernetes", "mlflow"):
        assert checks[name]["state"] == "off", checks[name]
    assert {"gpu", "kernels", "embedded store", "disk", "memory", "real data", "extra pipelines"} <= set(checks)
    assert all(check["next_step"] for check in checks.values() if check["state"] == "missing")


def test_next_steps_stand_below_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Check("disk", "missing", "1 GiB", "free some"), Check("gpu", "off", "none")]
    monkeypatch.setattr("modalrec.doctor.examine", lambda: found)
    code, out, _ = cli("doctor")
    assert code == 1
    assert re.search(r"^missing disk +1 GiB\n +-> free some\noff     gpu +none$", out, re.MULTILINE)
    monkeypatch.setattr("modalrec.doctor.examine", lambda: found[1:])
    assert cli("doctor")[0] == 0


def test_packages_that_are_absent_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=2", "numpy<2", "nowhere-to-be-found", 'uvicorn-x ; extra == "serve"', 'numpy ; extra == "laptop"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: wanted)
    packages, serve, laptop = check_packages()[1:]
    assert packages.state == "missing"
    assert re.fullmatch(r"numpy is 2\S+, not <2, nowhere-to-be-found is not installed", packages.found)
    assert (serve.state, serve.next_step) == ("off", "pip install 'modalrec[serve]'")
    assert "uvicorn-x is not installed" in serve.found
    assert laptop.state == "ok"


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_writable("home", tmp_path, "HOME").state == "ok"
    found = check_writable("home", tmp_path / "gone", "HOME")
    assert (found.state, found.next_step) == ("missing", "set HOME to a folder that can be written to")
    assert "No such file" in found.found
    monkeypatch.setenv("MODALREC_DATA", str(tmp_path))
    assert check_data().state == "ok"
    monkeypatch.setenv("MODALREC_DATA", str(tmp_path / "gone"))
    assert check_data().state == "missing"
    monkeypatch.delenv("MODALREC_DATA")
    assert check_data().state == "off"


def test_a_store_that_works_and_one_that_is_half_set_up(
    store_env: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_store() == Check("s3 store", "ok", store_env.endpoint)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "")
    assert "AWS_SECRET_ACCESS_KEY" in check_store().next_step
    for name in store_env.env():
        monkeypatch.delenv(name)
    assert check_store().state == "off"


def test_pipelines_and_mlflow(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, check in (("KF_PIPELINES_ENDPOINT", check_pipelines), ("MLFLOW_TRACKING_URI", check_mlflow)):
        assert check().state == "off"
        monkeypatch.setenv(variable, address)
        assert check().state == "ok"
        monkeypatch.setenv(variable, NOWHERE)
        assert "does not answer" in check().found
        assert check().next_step
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", address)
    monkeypatch.setenv("KFP_TOKEN", "old")
    found = check_pipelines()
    assert (found.state, found.next_step) == ("missing", "put a token that is valid now into KFP_TOKEN")
    monkeypatch.setattr(Answers, "token", "old")
    assert check_pipelines().state == "ok"


def test_the_cluster_of_the_current_context(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.state for check in check_cluster()] == ["off"]

    def config(server: str) -> None:
        one = {"clusters": [{"name": "c", "cluster": {"server": server}}], "users": [{"name": "u", "user": {}}]}
        context = {"contexts": [{"name": "kind", "context": {"cluster": "c", "user": "u"}}], "current-context": "kind"}
        file = tmp_path / "kubeconfig"
        file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **one, **context}))
        monkeypatch.setenv("KUBECONFIG", str(file))

    config(address)
    found = {check.name: check for check in check_cluster()}
    assert {name: check.state for name, check in found.items()} == {
        **{"kubernetes": "ok", "argo": "ok", "katib": "ok"},
        "kserve": "off",
    }
    assert found["kubernetes"].found == "context kind"
    assert "install KServe" in found["kserve"].next_step
    config(NOWHERE)
    (alone,) = check_cluster()
    assert alone.state == "missing"
    assert "127.0.0.1:9" in alone.found
    assert "use-context" in alone.next_step
