"""MLflow: a real server, with a run a stage; and what happens without one."""

import json
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
import yaml

from modalrec.artifacts import read_manifest
from modalrec.config import flatten, resolve
from modalrec.errors import UpstreamError
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.tracking import tracked
from modalrec.tuning.build import list_field
from tests.cli.conftest import Cli, cli
from tests.stages.trained import RECOMMENDER, code, ingest, run_stage
from tests.tuning.small import document

__all__ = ["cli"]

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


def runs_of(address: str, experiment: str) -> dict[str, Any]:
    """The runs of an experiment, by name."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    found: Any = client.get_experiment_by_name(experiment)
    return {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def test_what_has_several_inputs_of_a_kind_becomes_a_run(
    server: str, edges: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """`join` and `compare`, by their commands."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "side by side")
    parts, whole = [tmp_path / f"text-{part}" for part in range(2)], tmp_path / "text"
    for part, folder in enumerate(parts):
        config = {"encoder": {"name": "hashing", "dimension": 8}, "part": part, "parts": 2}
        run_stage("embed_text", config, dataset=edges["dataset"], text_embeddings=folder)
    assert cli("join", *parts, "--embeddings", whole)[0] == 0
    model = {"recommender": {"name": "sasrec", "width": 8, "heads": 2, "layers": 1}, "training": {"epochs": 1}}
    run_stage("finetune", model, dataset=edges["dataset"], model=tmp_path / "model")
    measured = {"dataset": edges["dataset"], "model": tmp_path / "model", "evaluation": tmp_path / "evaluation"}
    run_stage("evaluate", {"cutoffs": [10], "gallery_users": 0, "bootstrap_samples": 100}, **measured)
    said = cli(
        "compare", f"mine={tmp_path / 'evaluation'}", "--dataset", edges["dataset"], "--comparison", tmp_path / "c"
    )
    assert said[0] == 0, said
    joined, compared = read_manifest(whole, "embeddings"), read_manifest(tmp_path / "c", "comparison")
    found = runs_of(server, "side by side")
    assert found.keys() == {f"join {joined.digest[:8]}", f"compare {compared.digest[:8]}"}
    run = found[f"join {joined.digest[:8]}"]
    assert run.data.metrics["items"] == joined.statistics["items"]
    run = found[f"compare {compared.digest[:8]}"]
    assert run.data.metrics["mine_recall_10"] == compared.statistics["mine_recall_10"]
    assert run.data.tags["modalrec.input.evaluation_0"] == compared.inputs["evaluation_0"]
    assert run.data.tags["mlflow.note.content"].startswith("# ")


def test_a_search_becomes_a_run_and_its_trials_runs_below_it(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """A trial that fails is there too; trials do not ask MLflow themselves."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "searches")
    code = "assert 'MLFLOW_TRACKING_URI' not in os.environ\nassert word == 'b', 'not b'\nprint(f'score={x}')"
    given = document(
        code, algorithm="grid", trials=4, fields=[list_field("word", ["a", "b"]), list_field("x", ["0.25", "0.5"])]
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(given))
    said = cli("tune", tmp_path / "small.yaml", "--out", tmp_path / "out")
    assert said[0] == 0, said
    listed = json.loads((tmp_path / "out" / "results.json").read_bytes())
    found = runs_of(server, "searches")
    assert found.keys() == {"tune small", *(f"trial {row['trial']}" for row in listed["trials"])}
    whole = found.pop("tune small")
    assert whole.data.metrics == {"score": 0.5}
    assert whole.data.params.items() >= {"word": "b", "x": "0.5", "algorithm": "grid"}.items()
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {whole.info.run_id}
    for row in listed["trials"]:
        run = found[f"trial {row['trial']}"]
        assert run.data.params == row["parameters"]
        assert run.info.status == {"a": "FAILED", "b": "FINISHED"}[row["parameters"]["word"]]
        assert ("modalrec.error" in run.data.tags) == (run.info.status == "FAILED")


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
