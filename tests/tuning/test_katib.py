"""The engine for clusters, with the real client against as much of Kubernetes' API as it asks for."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from modalrec.errors import ConfigError, TrainingError, UpstreamError
from modalrec.run import Run
from modalrec.testing.faults import running
from modalrec.tuning.experiment import read_experiment
from modalrec.tuning.katib import RETRIES, Cluster, on_cluster, trial_rows
from tests.tuning.small import container, training

QUIET = Run("tune", quiet=True)
BASE = "/apis/kubeflow.org/v1beta1/namespaces/ranch"


def condition(kind: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": "True", "message": message}


def trial(number: int, kind: str, layers: str, **values: str) -> dict[str, Any]:
    metrics = [{"name": "valid_mrr_20", "min": "0.1", "max": "unavailable", "latest": "0.1", **values}]
    return {
        "metadata": {"name": f"training-{number}", "creationTimestamp": f"2026-11-22T08:00:{number:02}Z"},
        "spec": {"parameterAssignments": [{"name": "recommender.layers", "value": layers}]},
        "status": {
            "conditions": [condition("Running") | {"status": "False"}, condition(kind, f"it has {kind}")],
            "observation": {"metrics": metrics if values else []},
            "startTime": "2026-11-22T08:00:00Z",
            "completionTime": "2026-11-22T08:01:30Z",
        },
    }


TRIALS = [
    trial(2, "Succeeded", "32", max="0.4"),
    trial(1, "Succeeded", "16", max="0.3", latest="0.2"),
    trial(3, "Failed", "16"),
    trial(4, "EarlyStopped", "16", max="0.2"),
    {"metadata": {"name": "training-5"}, "spec": {}, "status": {"conditions": [condition("Running")]}},
]


class Api(BaseHTTPRequestHandler):
    """One experiment, which ends after it was looked at twice."""

    experiment: dict[str, Any] | None = None
    end = "Succeeded"
    forbidden = False
    looks = 0
    labels = ""
    away = 0

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if Api.forbidden:
            self.answer({"message": "experiments.kubeflow.org is forbidden"}, 403)
        elif self.path != f"{BASE}/experiments":
            self.answer({"message": "not found"}, 404)
        elif Api.experiment is not None:
            self.answer({"message": "already exists"}, 409)
        else:
            Api.experiment = body
            self.answer(body, 201)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if Api.away:
            Api.away -= 1
            self.answer({"message": "etcdserver: request timed out"}, 503)
            return
        if url.path == f"{BASE}/trials":
            Api.labels = parse_qs(url.query)["labelSelector"][0]
            self.answer({"items": TRIALS})
            return
        Api.looks += 1
        done = Api.looks > 1
        status = {"conditions": [condition(Api.end, "all trials failed")] if done else [condition("Running")]}
        self.answer({**(Api.experiment or {}), "status": {**status, "trialsSucceeded": Api.looks}})


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    Api.experiment, Api.end, Api.forbidden, Api.looks, Api.away = None, "Succeeded", False, 0, 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    with running(server):
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
            "users": [{"name": "u", "user": {}}],
        }
        (tmp_path / "config").write_text(yaml.safe_dump(config))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
        yield Cluster("ranch", seconds=0.01)


def document() -> dict[str, Any]:
    return on_cluster(read_experiment(training(), "training.yaml"))


def test_an_experiment_is_created_followed_and_its_trials_fetched(cluster: Cluster) -> None:
    found = cluster.run(document(), QUIET)
    assert Api.experiment == document()
    assert Api.labels == "katib.kubeflow.org/experiment=training"
    assert [(row["name"], row["state"], row["value"]) for row in found] == [
        ("training-1", "succeeded", 0.3),
        ("training-2", "succeeded", 0.4),
        ("training-3", "failed", None),
        ("training-4", "ended early", None),
    ]
    assert found[1]["parameters"] == {"recommender.layers": "32"}
    assert found[0]["seconds"] == 90
    assert found[2]["error"] == "it has Failed"


def test_one_that_is_there_already_is_followed_unless_it_is_another(cluster: Cluster) -> None:
    Api.experiment = {**document(), "metadata": {"name": "training", "uid": "1"}}
    assert len(cluster.run(document(), QUIET)) == 4
    other = training()
    container(other)["args"].append("--seed=1")
    with pytest.raises(ConfigError, match="another experiment of this name is in ranch; delete it"):
        cluster.run(other, QUIET)


def test_a_failure_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    Api.end = "Failed"
    assert len(cluster.run(document(), QUIET)) == 4, "some trials succeeded before"
    monkeypatch.setattr("tests.tuning.test_katib.TRIALS", [TRIALS[2]])
    Api.experiment = None
    with pytest.raises(TrainingError, match="all trials failed; look at the pods"):
        cluster.run(document(), QUIET)


def test_a_refusal_and_silence_are_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    Api.forbidden = True
    with pytest.raises(UpstreamError, match=r"not allowed .*apply manifests/components/tuning"):
        cluster.run(document(), QUIET)
    Api.forbidden = False
    with pytest.raises(UpstreamError, match=r"not found .*is Katib installed, and the namespace right"):
        Cluster("elsewhere").run(document(), QUIET)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", "/nowhere")
    with pytest.raises(UpstreamError, match="no cluster is configured here"):
        cluster.run(document(), QUIET)


def test_a_cluster_that_is_away_for_a_moment_ends_no_search(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalrec.tuning.katib.RETRIES", RETRIES.new(backoff_factor=0))
    Api.away = 4
    assert len(cluster.run(document(), QUIET)) == 4
    Api.experiment, Api.away = None, 50
    with pytest.raises(UpstreamError, match=r"the cluster fails .*503"):
        cluster.run(document(), QUIET)
    assert Api.away == 50 - 7


def test_places_settings_counts_and_image_go_into_the_file() -> None:
    given = read_experiment(training(trials=9, parallel=3), "training.yaml")
    made = on_cluster(
        given, places={"dataset": "s3://mine/sessions"}, assignments=["training.epochs=1"], image="r/t:1", trials=2
    )
    spec = made["spec"]
    assert (spec["maxTrialCount"], spec["parallelTrialCount"], spec["maxFailedTrialCount"]) == (2, 2, 2)
    args = container(made)["args"]
    assert args[0] == "--dataset=s3://mine/sessions"
    assert args[-1] == "--set=training.epochs=1"
    assert container(made)["command"] == ["modalrec", "finetune"]
    assert container(made)["image"] == "r/t:1"
    assert on_cluster(given) == given.document
    with pytest.raises(ConfigError, match="--dataset out/dataset: trials on a cluster read s3:// URIs"):
        on_cluster(given, places={"dataset": "out/dataset"})


def test_the_strategy_decides_which_value_counts() -> None:
    objective = {"type": "maximize", "objectiveMetricName": "valid_mrr_20"}
    latest = trial_rows(TRIALS, objective, {"valid_mrr_20": "latest"})
    assert latest[0]["value"] == 0.2
    assert trial_rows([trial(1, "MetricsUnavailable", "16")], objective, {})[0]["state"] == "failed"
