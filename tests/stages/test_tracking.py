"""MLflow: a real server, with a run a stage; and what happens without one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from modalrec.artifacts import read_manifest
from modalrec.config import flatten, resolve
from modalrec.errors import UpstreamError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.tracking import tracked
from tests.stages.trained import RECOMMENDER, code, ingest

pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'modalrec[mlflow]'")


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server on a database of its own."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--default-artifact-root", str(folder / "artifacts")]
    words += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", *words]
    address = f"http://127.0.0.1:{port}"
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
        try:
            deadline = time.monotonic() + 180
            while not _answers(address):
                running = started.poll() is None and time.monotonic() < deadline
                assert running, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield address
        finally:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGTERM)
            started.wait(30)


def _answers(address: str) -> bool:
    try:
        return urllib3.request("GET", f"{address}/health", retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("edges")
    dataset = ingest(folder)
    return {"dataset": dataset, "codes": code(folder, dataset)}


def finetune(edges: dict[str, Path], model: Path) -> dict[str, float]:
    _, config = load_stage("finetune")
    chosen = {"recommender": RECOMMENDER, "training": {"epochs": 2, "batch_size": 8}}
    return tracked("finetune", {**edges, "model": model}, resolve(config, chosen), Run("finetune", quiet=True))


def test_a_stage_becomes_a_run(
    server: str, edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "films")
    numbers = finetune(edges, tmp_path / "model")
    manifest = read_manifest(tmp_path / "model", "model")
    client = MlflowClient(server)
    experiment: Any = client.get_experiment_by_name("films")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"finetune {manifest.digest[:8]}"
    assert run.data.params.items() >= {"recommender.name": "encoder_decoder", "training.epochs": "2"}.items()
    assert run.data.params == {key: str(value) for key, value in flatten(manifest.config).items()}
    assert run.data.metrics["parameters"] == numbers["parameters"]
    losses = client.get_metric_history(run.info.run_id, "epoch_loss")
    assert [one.step for one in losses] == [1, 2]
    assert run.data.tags["modalrec.digest"] == manifest.digest
    assert run.data.tags["modalrec.input.dataset"] == manifest.inputs["dataset"]
    assert run.data.tags["mlflow.note.content"].startswith("# encoder_decoder")


def test_a_server_that_does_not_answer_is_said_before_the_stage_begins(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UpstreamError, match=r"MLFLOW_TRACKING_URI=http://127.0.0.1:9: does not answer as MLflow"):
        finetune(edges, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_server_that_goes_away_costs_no_model(
    server: str,
    edges: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setattr(MlflowClient, "log_batch", _gone)
    finetune(edges, tmp_path / "model")
    assert read_manifest(tmp_path / "model", "model").stage == "finetune"
    assert "[finetune] not in MLflow, and whole besides: gone" in capsys.readouterr().err


def _gone(*_: object, **__: object) -> None:
    raise ConnectionError("gone")


def test_without_its_package_it_says_what_to_install(
    edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UpstreamError, match=r"pip install 'modalrec\[mlflow\]', or unset it"):
        finetune(edges, tmp_path / "model")
