"""Manifests: what a cluster would refuse fails here, and each check is shown something that it must refuse."""

import copy
from collections.abc import Callable
from typing import Any

import kubernetes_validate
import pytest
import yaml

from modalrec import __version__
from pipelines.placement import STORE_CONFIG, STORE_SECRET, STORE_VARIABLES
from tests.manifests import policies
from tests.manifests.policies import POLICIES
from tests.manifests.rendering import MANIFESTS, render, with_components

KUBERNETES = ("1.31", "1.37")
"""The oldest release that is still in use, and the newest that is known here."""
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
STORES = ("minio", "seaweedfs", "external-s3")
OTHERS = ("gpu-pool", "tuning")
Objects = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Objects]:
    """Every overlay, and the base with every store and all else; `test_serving` has what KServe needs."""
    folder = tmp_path_factory.mktemp("render")
    found = {overlay: render(MANIFESTS / "overlays" / overlay) for overlay in OVERLAYS}
    return found | {store: with_components([store, *OTHERS], folder) for store in STORES}


SETS = [*OVERLAYS, *STORES]


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_what_kubernetes_knows(rendered: dict[str, Objects], version: str) -> None:
    seen: list[dict[str, Any]] = []
    for thing in (thing for objects in rendered.values() for thing in objects):
        if thing not in seen:
            seen.append(thing)
            kubernetes_validate.validate(thing, version, strict=True)
    assert {"Namespace", "StatefulSet", "Job", "NetworkPolicy", "ResourceQuota"} <= {thing["kind"] for thing in seen}


def test_a_misspelt_field_is_found(rendered: dict[str, Objects]) -> None:
    thing = copy.deepcopy(next(thing for thing in rendered["minio"] if thing["kind"] == "StatefulSet"))
    thing["spec"]["template"]["spec"]["containers"][0]["imagePullPolicyy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolicyy"):
        kubernetes_validate.validate(thing, KUBERNETES[1], strict=True)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_set_keeps_to_every_policy(rendered: dict[str, Objects], name: str, policy: str) -> None:
    assert list(POLICIES[policy](rendered[name])) == []


def test_no_component_is_left_out() -> None:
    folders = {path.name for path in (MANIFESTS / "components").iterdir()}
    assert folders - {*STORES, *OTHERS} == {"serving", "store-access"}


def test_no_object_occurs_twice(rendered: dict[str, Objects]) -> None:
    for objects in rendered.values():
        names = [policies.name(thing) for thing in objects]
        assert len(names) == len(set(names))


def _container(**changes: Any) -> Callable[[Objects], None]:
    """A fault in the store's container; None takes a field away."""

    def plant(objects: Objects) -> None:
        (spec,) = _of(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"]
        _change(spec, changes)

    return plant


def _pod(**changes: Any) -> Callable[[Objects], None]:
    return lambda objects: _change(_of(objects, "StatefulSet")["spec"]["template"]["spec"], changes)


def _thing(kind: str, **changes: Any) -> Callable[[Objects], None]:
    return lambda objects: _change(_of(objects, kind), changes)


def _change(place: dict[str, Any], changes: dict[str, Any]) -> None:
    """Sets fields, deep where a value is a dictionary; None takes a field away."""
    for key, value in changes.items():
        if value is None:
            del place[key]
        elif isinstance(value, dict) and isinstance(place.get(key), dict):
            _change(place[key], value)
        else:
            place[key] = value


def _of(objects: Objects, kind: str) -> dict[str, Any]:
    return next(thing for thing in objects if thing["kind"] == kind)


SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "modalrec"},
    "data": {"k": "eA=="},
}
PASSWORD = [{"name": "MINIO_ROOT_PASSWORD", "value": "minio123"}]
VIOLATIONS: list[tuple[str, str, Callable[[Objects], None]]] = [
    ("non_root", "root by default", _pod(securityContext={"runAsNonRoot": None})),
    ("non_root", "user 0", _container(securityContext={"runAsUser": 0})),
    ("no_escalation", "not forbidden", _container(securityContext={"allowPrivilegeEscalation": None})),
    ("no_escalation", "privileged", _container(securityContext={"privileged": True})),
    ("capabilities_dropped", "kept", _container(securityContext={"capabilities": None})),
    ("capabilities_dropped", "added", _container(securityContext={"capabilities": {"add": ["NET_ADMIN"]}})),
    ("seccomp", "none", _pod(securityContext={"seccompProfile": None})),
    ("seccomp", "unconfined", _container(securityContext={"seccompProfile": {"type": "Unconfined"}})),
    ("read_only_root", "writable", _container(securityContext={"readOnlyRootFilesystem": False})),
    ("limits", "no limit", _container(resources={"limits": None})),
    ("limits", "no request", _container(resources={"requests": {"cpu": None}})),
    (
        "gpus",
        "fewer requested",
        lambda o: _change(_gpu(o), {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "2"}}),
    ),
    ("gpus", "not limited", lambda o: _change(_gpu(o), {"limits": {"nvidia.com/gpu": None}})),
    ("fixed_tags", "no tag", _container(image="localhost:5000/minio/minio")),
    ("fixed_tags", "latest", _container(image="minio/minio:latest")),
    ("no_literal_secret", "a secret", lambda objects: objects.append(SECRET)),
    ("no_literal_secret", "a password", _container(env=PASSWORD)),
    ("no_literal_secret", "in a config map", _thing("ConfigMap", data={"secret_key": "minio123"})),
    ("not_the_host", "network", _pod(hostNetwork=True)),
    ("not_the_host", "disk", _pod(volumes=[{"name": "data", "hostPath": {"path": "/"}}])),
    ("no_token", "mounted", _pod(automountServiceAccountToken=None)),
    ("least_rights", "all verbs", _thing("Role", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}])),
    (
        "least_rights",
        "all secrets",
        _thing("Role", rules=[{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
    ),
    ("least_rights", "admin", _thing("RoleBinding", roleRef={"name": "cluster-admin"})),
    ("default_deny", "gone", lambda o: o.remove(next(t for t in o if t["metadata"]["name"] == "default-deny"))),
    (
        "restricted",
        "baseline",
        _thing("Namespace", metadata={"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}),
    ),
    ("references", "no account", lambda o: [o.remove(t) for t in list(o) if t["kind"] == "ServiceAccount"] and None),
    ("references", "no claim", lambda objects: objects.remove(_of(objects, "PersistentVolumeClaim"))),
    ("references", "no priority", _pod(priorityClassName="urgent")),
    (
        "references",
        "another port",
        _thing("Service", spec={"ports": [{"name": "s3", "port": 9000, "targetPort": "web"}]}),
    ),
]


def _gpu(objects: Objects) -> dict[str, Any]:
    found: dict[str, Any] = _of(objects, "Job")["spec"]["template"]["spec"]["containers"][0]["resources"]
    return found


@pytest.mark.parametrize(
    ("policy", "what", "plant"), VIOLATIONS, ids=[f"{name}: {what}" for name, what, _ in VIOLATIONS]
)
def test_a_violation_is_found_by_its_policy_and_by_no_other(
    rendered: dict[str, Objects], policy: str, what: str, plant: Callable[[Objects], None]
) -> None:
    objects = copy.deepcopy(rendered["minio"])
    plant(objects)
    assert {name for name, check in POLICIES.items() if list(check(objects))} == {policy}


def test_every_policy_has_a_violation() -> None:
    assert {policy for policy, _, _ in VIOLATIONS} == set(POLICIES)


def test_policies_look_into_trials() -> None:
    """Of a Katib experiment, whose pods are a template in a template."""
    container = {"name": "trial", "image": "modalrec/train"}
    job = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": {"containers": [container]}}}}
    experiment = {"kind": "Experiment", "metadata": {"name": "e"}, "spec": {"trialTemplate": {"trialSpec": job}}}
    refused = {name for name, check in POLICIES.items() if list(check([experiment]))}
    assert refused >= {
        "non_root",
        "no_escalation",
        "capabilities_dropped",
        "seccomp",
        "limits",
        "fixed_tags",
        "no_token",
    }


@pytest.mark.parametrize("name", SETS)
def test_steps_find_the_store(rendered: dict[str, Objects], name: str) -> None:
    """Pipelines name a config map and a secret; both ends must agree."""
    maps = [thing for thing in rendered[name] if thing["kind"] == "ConfigMap"]
    stores = [thing for thing in maps if thing["metadata"]["name"] == STORE_CONFIG]
    assert stores
    for thing in stores:
        assert set(thing["data"]) == set(STORE_VARIABLES)
    assert policies.STORE_SECRET == STORE_SECRET
    for thing in maps:
        if thing["metadata"]["name"] == "kfp-launcher":
            provider = yaml.safe_load(thing["data"]["providers"])["s3"]["default"]
            assert f"//{provider['endpoint']}" in stores[0]["data"]["endpoint"]
            assert stores[0]["data"]["endpoint"].startswith("http://") == provider["disableSSL"]
            assert provider["credentials"]["secretRef"]["secretName"] == STORE_SECRET


@pytest.mark.parametrize("name", ["minio", "seaweedfs"])
def test_a_store_is_reached_at_its_service(rendered: dict[str, Objects], name: str) -> None:
    service = _of(rendered[name], "Service")
    address = (
        f"http://{service['metadata']['name']}.{service['metadata']['namespace']}:{service['spec']['ports'][0]['port']}"
    )
    assert _of(rendered[name], "ConfigMap")["data"].get("endpoint", address) == address


def test_the_walk_through_names_files_that_are_there() -> None:
    text = (MANIFESTS / "README.md").read_text()
    for overlay in OVERLAYS:
        assert f"overlays/{overlay}" in text or f"OVERLAY={overlay}" in text
    for component in (path.name for path in (MANIFESTS / "components").iterdir()):
        assert component in text, component


def test_our_own_image_is_the_release(rendered: dict[str, Objects]) -> None:
    ours = {one.spec["image"] for objects in rendered.values() for one in policies.containers(objects)}
    assert {image for image in ours if image.startswith("modalrec/")} == {f"modalrec/train:{__version__}"}
