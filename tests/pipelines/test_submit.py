"""Submitting: what the server gets, and what is told when it does not answer."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modalrec.errors import ConfigError
from pipelines.runner.submit import submit
from pipelines.runner.validate import validate

ROOT = Path(__file__).parents[2]


class Server(BaseHTTPRequestHandler):
    """As much of the v2beta1 API as starting a run takes."""

    runs: list[dict[str, Any]] = []

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.split("?")[0].removeprefix("/apis/v2beta1")
        if path == "/healthz":
            self.answer({"multi_user": False})
        elif path == "/experiments":
            self.answer({"experiments": []})
        else:
            self.answer({"message": f"not found: {path}"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/experiments"):
            self.answer({"experiment_id": "e1", "display_name": body["display_name"]})
        elif body["runtime_config"]["parameters"].get("preset") == "refuse":
            self.answer({"message": "the quota is used up"}, 400)
        else:
            self.runs.append(body)
            self.answer({"run_id": "r1", "experiment_id": "e1", "display_name": body["display_name"]})


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Server.runs.clear()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_server_gets_the_recipe_and_its_parameters(endpoint: str) -> None:
    arguments = {"source": "s3://raw/films", "seed": 7, "node_selector": {"pool": "gpu"}}
    assert submit("semantic_id", arguments, endpoint=endpoint, experiment="films", run_name="first") == "r1"
    (run,) = Server.runs
    assert run["display_name"] == "first"
    assert run["experiment_id"] == "e1"
    assert run["runtime_config"]["parameters"] == arguments
    validate([run["pipeline_spec"]["pipeline_spec"], run["pipeline_spec"]["platform_spec"]], "what was sent")


def test_a_refusal_is_told(endpoint: str) -> None:
    arguments = {"source": "s3://raw/films", "preset": "refuse"}
    with pytest.raises(ConfigError, match="the quota is used up"):
        submit("semantic_id", arguments, endpoint=endpoint, experiment="films", run_name="first")


def test_wrong_parameters_are_told_before_the_server_is_asked() -> None:
    with pytest.raises(ConfigError, match="presett: unknown parameter, did you mean preset"):
        submit("semantic_id", {"source": "x", "presett": 1}, endpoint="nowhere", experiment="e", run_name="r")


def test_no_server_is_one_message_and_an_exit_code() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        command = [sys.executable, "-m", "pipelines", "submit", "semantic_id", "source=s3://raw/films"]
        done = subprocess.run(
            [*command, "--endpoint", address],
            cwd=ROOT,
            env={**os.environ, "NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert f"error: {address}: does not answer" in done.stderr
    assert "Traceback" not in done.stderr
