"""What every manifest must keep to: each policy yields what a set of rendered objects does wrong."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Object = dict[str, Any]
Policy = Callable[[list[Object]], Iterator[str]]

SECRET_NAME = re.compile(r"SECRET|PASSWORD|TOKEN|CREDENTIAL|ACCESS_?KEY|API_?KEY|PRIVATE_?KEY", re.IGNORECASE)
RUNNER = "modalrec-runner"
"""The one account whose pods talk to the Kubernetes API."""
STORE_SECRET = "mlpipeline-minio-artifact"
"""The one secret: Kubeflow brings it, or the administrator; it is never part of a manifest."""


class PodSpec(NamedTuple):
    """A pod, or the template of one: where it is, its labels, its specification."""

    where: str
    namespace: str
    labels: dict[str, str]
    spec: Object


class Container(NamedTuple):
    """A container, and the pod's own security settings, which hold where it has none."""

    where: str
    spec: Object
    pod: Object

    def setting(self, name: str) -> Any:
        """A security setting in force."""
        own = self.spec.get("securityContext", {})
        return own.get(name, self.pod.get("securityContext", {}).get(name))


def pods(objects: list[Object]) -> Iterator[PodSpec]:
    """Every pod that the objects are or would make; a trial of a Katib experiment and a predictor of KServe too."""
    for thing in objects:
        namespace = thing["metadata"].get("namespace", "")
        if thing["kind"] == "InferenceService":
            labels = {"serving.kserve.io/inferenceservice": thing["metadata"]["name"]}
            yield PodSpec(name(thing), namespace, labels, thing["spec"]["predictor"])
            continue
        trial = (
            thing.get("spec", {}).get("trialTemplate", {}).get("trialSpec") if thing["kind"] == "Experiment" else None
        )
        place = trial or thing
        if place["kind"] == "CronJob":
            place = place["spec"]["jobTemplate"]
        template = place if place.get("kind") == "Pod" else place.get("spec", {}).get("template")
        if isinstance(template, dict) and "spec" in template:
            labels = template.get("metadata", {}).get("labels", {})
            yield PodSpec(name(thing), namespace, labels, template["spec"])


def containers(objects: list[Object]) -> Iterator[Container]:
    """Every container of every pod."""
    for pod in pods(objects):
        for spec in [*pod.spec.get("initContainers", []), *pod.spec["containers"]]:
            yield Container(f"{pod.where}: {spec['name']}", spec, pod.spec)


def name(thing: Object) -> str:
    """Kind and name."""
    return f"{thing['kind']} {thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def non_root(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        if one.setting("runAsNonRoot") is not True or one.setting("runAsUser") == 0:
            yield f"{one.where}: may run as root"


def no_escalation(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        own = one.spec.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            yield f"{one.where}: may gain privileges"


def capabilities_dropped(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        capabilities = one.spec.get("securityContext", {}).get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{one.where}: keeps capabilities"


def seccomp(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        if (one.setting("seccompProfile") or {}).get("type") != "RuntimeDefault":
            yield f"{one.where}: has no seccomp profile"


def read_only_root(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        if one.spec.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{one.where}: may write to its image"


def limits(objects: list[Object]) -> Iterator[str]:
    """A limit of memory, so that no neighbour dies of it; CPU is only asked for: a limit would waste idle cores."""
    for one in containers(objects):
        resources = one.spec.get("resources", {})
        missing = {"cpu", "memory"} - set(resources.get("requests", {})) or {"memory"} - set(
            resources.get("limits", {})
        )
        if missing:
            yield f"{one.where}: no request or limit of {', '.join(sorted(missing))}"


def gpus(objects: list[Object]) -> Iterator[str]:
    """Devices (resources with a domain) cannot be overcommitted: Kubernetes refuses a request that is not the limit."""
    for one in containers(objects):
        resources = one.spec.get("resources", {})
        asked, allowed = resources.get("requests", {}), resources.get("limits", {})
        for device in sorted({key for key in [*asked, *allowed] if "/" in key}):
            if device not in allowed or asked.get(device, allowed[device]) != allowed[device]:
                yield f"{one.where}: {device} is requested {asked.get(device)} and limited {allowed.get(device)}"


def fixed_tags(objects: list[Object]) -> Iterator[str]:
    for one in containers(objects):
        last = one.spec["image"].rpartition("/")[2]
        if "@sha256:" not in last and (":" not in last or last.endswith(":latest")):
            yield f"{one.where}: the image {one.spec['image']} has no fixed tag"


def no_literal_secret(objects: list[Object]) -> Iterator[str]:
    for thing in objects:
        if thing["kind"] == "Secret":
            yield f"{name(thing)}: a secret in a manifest"
        if thing["kind"] == "ConfigMap":
            yield from (f"{name(thing)}: {key}" for key in thing.get("data", {}) if SECRET_NAME.search(key))
    for one in containers(objects):
        for variable in one.spec.get("env", []):
            if SECRET_NAME.search(variable["name"]) and "value" in variable:
                yield f"{one.where}: {variable['name']} is written out"


def not_the_host(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        shared = [key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key)]
        shared += ["hostPath" for volume in pod.spec.get("volumes", []) if "hostPath" in volume]
        yield from (f"{pod.where}: {key}" for key in shared)


def no_token(objects: list[Object]) -> Iterator[str]:
    for pod in pods(objects):
        if pod.spec.get("serviceAccountName") != RUNNER and pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.where}: gets a token for the Kubernetes API"


def least_rights(objects: list[Object]) -> Iterator[str]:
    for thing in objects:
        for rule in thing.get("rules", []) if thing["kind"] in ("Role", "ClusterRole") else []:
            if "*" in [*rule.get("verbs", []), *rule.get("resources", []), *rule.get("apiGroups", [])]:
                yield f"{name(thing)}: a wildcard"
            if "secrets" in rule.get("resources", []) and not rule.get("resourceNames"):
                yield f"{name(thing)}: every secret"
        if thing["kind"] in ("RoleBinding", "ClusterRoleBinding") and thing["roleRef"]["name"] in (
            "cluster-admin",
            "admin",
        ):
            yield f"{name(thing)}: binds {thing['roleRef']['name']}"


def default_deny(objects: list[Object]) -> Iterator[str]:
    denied = {
        thing["metadata"]["namespace"]
        for thing in objects
        if thing["kind"] == "NetworkPolicy"
        and thing["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    for thing in objects:
        if thing["kind"] == "Namespace" and thing["metadata"]["name"] not in denied:
            yield f"{name(thing)}: no policy that denies by default"


def restricted(objects: list[Object]) -> Iterator[str]:
    for thing in objects:
        labels = thing["metadata"].get("labels", {})
        if thing["kind"] == "Namespace" and labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name(thing)}: does not enforce the restricted standard"


def references(objects: list[Object]) -> Iterator[str]:
    """What a pod or a service refers to is there, in its namespace."""
    there = {(thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"]) for thing in objects}
    for pod in pods(objects):
        for kind, wanted in _references(pod.spec):
            if kind == "Secret" and wanted != STORE_SECRET:
                yield f"{pod.where}: the secret {wanted}"
            space = "" if kind == "PriorityClass" else pod.namespace
            if kind != "Secret" and (kind, space, wanted) not in there:
                yield f"{pod.where}: there is no {kind} {wanted}"
    for thing in objects:
        if thing["kind"] == "Service" and not any(_serves(thing, pod) for pod in pods(objects)):
            yield f"{name(thing)}: no pod has its labels and port"


def _references(spec: Object) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    if "priorityClassName" in spec:
        yield "PriorityClass", spec["priorityClassName"]
    for volume in spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec["containers"]:
        for source in [variable.get("valueFrom", {}) for variable in container.get("env", [])]:
            if "secretKeyRef" in source:
                yield "Secret", source["secretKeyRef"]["name"]
            if "configMapKeyRef" in source:
                yield "ConfigMap", source["configMapKeyRef"]["name"]


def _serves(service: Object, pod: PodSpec) -> bool:
    ports = {port["name"] for container in pod.spec["containers"] for port in container.get("ports", [])}
    return (
        pod.namespace == service["metadata"]["namespace"]
        and service["spec"]["selector"].items() <= pod.labels.items()
        and {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    )


POLICIES: dict[str, Policy] = {
    policy.__name__: policy
    for policy in (
        *(non_root, no_escalation, capabilities_dropped, seccomp, read_only_root, limits, gpus, fixed_tags),
        *(no_literal_secret, not_the_host, no_token, least_rights, default_deny, restricted, references),
    )
}
