"""The InferenceService: what KServe and Kubernetes would refuse fails here, and its command is one that we have."""

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.images import image
from modalrec.tuning.build import STORE
from tests.documents import problem
from tests.manifests.custom import DEFINED, problems
from tests.manifests.policies import POLICIES
from tests.manifests.rendering import with_components
from tests.manifests.test_manifests import KUBERNETES

PREDICTOR = "InferenceService predictor"
EXTENSIONS = set(DEFINED[PREDICTOR]["properties"])
"""What a predictor has besides a pod's fields: ComponentExtensionSpec of KServe's v1beta1."""


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return with_components(["external-s3", "serving"], tmp_path_factory.mktemp("render"))


@pytest.fixture
def service(objects: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [thing for thing in objects if thing["kind"] == "InferenceService"]
    return copy.deepcopy(found)


def pod_of(service: dict[str, Any]) -> dict[str, Any]:
    """The pod that KServe makes of a predictor with containers."""
    predictor = service["spec"]["predictor"]
    spec = {name: value for name, value in predictor.items() if name not in EXTENSIONS}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": service["metadata"]["name"]}, "spec": spec}


@pytest.mark.parametrize("version", KUBERNETES)
def test_it_is_what_kserve_and_kubernetes_know(service: dict[str, Any], version: str) -> None:
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service["metadata"]["name"])
    assert list(service["spec"]) == ["predictor"]
    kubernetes_validate.validate(pod_of(service), version, strict=True)
    predictor = service["spec"]["predictor"]
    assert 0 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    assert list(problems(PREDICTOR, predictor)) == []
    assert [one["name"] for one in predictor["containers"]] == ["kserve-container"]


def test_a_misspelt_field_or_another_type_is_found(service: dict[str, Any]) -> None:
    wrong = {**service["spec"]["predictor"], "minReplicas": "one", "scaleMetric": "gpu"}
    assert len(list(problems(PREDICTOR, wrong))) == 2
    service["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(kubernetes_validate.ValidationError, match="minReplica"):
        kubernetes_validate.validate(pod_of(service), KUBERNETES[0], strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_what_comes_with_it_is_what_kubernetes_knows(objects: list[dict[str, Any]], version: str) -> None:
    for thing in objects:
        if thing["kind"] != "InferenceService":
            kubernetes_validate.validate(thing, version, strict=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_it_keeps_to_every_policy(objects: list[dict[str, Any]], policy: str) -> None:
    assert list(POLICIES[policy](objects)) == []


def test_policies_look_into_predictors(service: dict[str, Any]) -> None:
    predictor = service["spec"]["predictor"]
    predictor["securityContext"] = {}
    predictor["containers"][0] |= {"securityContext": {}, "resources": {}, "image": "modalrec/train"}
    del predictor["automountServiceAccountToken"]
    refused = {name for name, check in POLICIES.items() if list(check([service]))}
    assert refused >= {
        "non_root",
        "no_escalation",
        "capabilities_dropped",
        "seccomp",
        "limits",
        "fixed_tags",
        "no_token",
    }


def test_its_command_is_ours_and_reads_the_store_of_the_pipelines(service: dict[str, Any]) -> None:
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == image("train")
    assert problem(" ".join([*container["command"], *container["args"]])) == ""
    given = {each["name"]: each["valueFrom"] for each in container["env"] if "valueFrom" in each}
    assert given == {name: {kind: {"name": of, "key": key}} for name, (kind, of, key) in STORE.items()}


def test_it_asks_what_the_server_answers(service: dict[str, Any]) -> None:
    (container,) = service["spec"]["predictor"]["containers"]
    source = (Path(__file__).parents[2] / "src" / "modalrec" / "serving" / "app.py").read_text()
    paths = {container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    paths.add(service["spec"]["predictor"]["annotations"]["prometheus.io/path"])
    assert all(f'@app.get("{path}"' in source for path in paths)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {container[name]["httpGet"]["port"] for name in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        *ports
    }
    assert f"--port={ports['http1']}" in container["args"]
    assert service["spec"]["predictor"]["annotations"]["prometheus.io/port"] == str(ports["http1"])
