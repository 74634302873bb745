"""Writing an Experiment: a stage's command, the fields to search, and the pod that every trial runs in."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from modalrec import __version__
from modalrec.tuning.template import PROGRAM, REFERENCE

SHORT = (
    "trialParameters",
    "tolerations",
    "algorithmSettings",
    "feasibleSpace",
    "valueFrom",
    "collector",
    "capabilities",
)
"""Fields that a file has on one line, or a line for each of their entries."""

NUMBER = re.compile(r"[-+]?[\d.]+([eE][-+]?\d+)?")

CONTAINER = "trial"
IMAGE = f"modalrec/train:{__version__}"
BUCKET = "s3://mlpipeline"
"""Kubeflow's own bucket; another one takes the place of its addresses in the file."""

STORE = {
    "AWS_ACCESS_KEY_ID": ("secretKeyRef", "mlpipeline-minio-artifact", "accesskey"),
    "AWS_SECRET_ACCESS_KEY": ("secretKeyRef", "mlpipeline-minio-artifact", "secretkey"),
    "AWS_ENDPOINT_URL": ("configMapKeyRef", "modalrec-store", "endpoint"),
}
"""Variables of a trial and where they come from: the same as for the steps of a pipeline."""


@dataclass(frozen=True)
class Field:
    """A field to search.

    Attributes:
        path: The field of the stage's configuration, dotted.
        kind: int, double, discrete or categorical.
        space: Katib's feasible space, of texts.
        form: How the value is written in the command; `{}` is its place.
    """

    path: str
    kind: str
    space: Mapping[str, Any]
    form: str = "{}"


def build_experiment(
    name: str,
    stage: str,
    fields: Sequence[Field],
    *,
    metric: str,
    maximise: bool = True,
    others: Sequence[str] = (),
    preset: str = "",
    settings: Sequence[str] = (),
    edges: Mapping[str, str],
    output: str,
    algorithm: str = "tpe",
    algorithm_settings: Mapping[str, str] | None = None,
    trials: int = 50,
    parallel: int = 2,
    image: str = IMAGE,
) -> dict[str, Any]:
    """An Experiment as plain values, not checked (`experiment.read_experiment` does).

    Args:
        name: Its name.
        stage: What a trial runs.
        fields: What is searched.
        metric: The objective, as the stage prints it.
        maximise: Or else minimise.
        others: Further metrics to collect.
        preset: Where the trials' settings start from.
        settings: Those that are fixed, as `field=value`.
        edges: From the stage's inputs to their addresses.
        output: The edge that a trial writes; it stays in the pod.
        algorithm: Katib's name.
        algorithm_settings: Its settings.
        trials: How many.
        parallel: How many at a time.
        image: The trials' image.
    """
    args = [f"--{edge}={place}" for edge, place in edges.items()]
    args += [f"--{output}=/tmp/{output}", f"--checkpoints={BUCKET}/checkpoints"]
    args += [f"--preset={preset}"] if preset else []
    args += [f"--set={text}" for text in settings]
    args += [f"--set={each.path}={each.form.format(REFERENCE.format(each.path))}" for each in fields]
    chosen = [{"name": key, "value": value} for key, value in (algorithm_settings or {}).items()]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": name},
        "spec": {
            "objective": {
                "type": "maximize" if maximise else "minimize",
                "objectiveMetricName": metric,
                **({"additionalMetricNames": list(others)} if others else {}),
            },
            "algorithm": {"algorithmName": algorithm, **({"algorithmSettings": chosen} if chosen else {})},
            "maxTrialCount": trials,
            "parallelTrialCount": parallel,
            "maxFailedTrialCount": min(5, trials),
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "parameters": [
                {"name": each.path, "parameterType": each.kind, "feasibleSpace": dict(each.space)} for each in fields
            ],
            "trialTemplate": {
                "primaryContainerName": CONTAINER,
                "successCondition": 'status.conditions.#(type=="Complete")#|#(status=="True")#',
                "failureCondition": 'status.conditions.#(type=="Failed")#|#(status=="True")#',
                "trialParameters": [{"name": each.path, "reference": each.path} for each in fields],
                "trialSpec": _job([PROGRAM, stage], args, image),
            },
        },
    }


def _job(command: list[str], args: list[str], image: str) -> dict[str, Any]:
    """A Job that tries again after a lost node: training goes on from its checkpoints in the store."""
    env = [{"name": name, "valueFrom": {kind: {"name": of, "key": key}}} for name, (kind, of, key) in STORE.items()]
    container = {
        "name": CONTAINER,
        "image": image,
        "command": command,
        "args": args,
        "env": env,
        "resources": {
            "requests": {"cpu": "4", "memory": "16Gi"},
            "limits": {"memory": "32Gi", "nvidia.com/gpu": "1"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],  # noqa: S108
    }
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
        "containers": [container],
    }
    # A proxy beside the trial would never end, and the Job with it.
    metadata = {"annotations": {"sidecar.istio.io/inject": "false"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {"backoffLimit": 2, "template": {"metadata": metadata, "spec": pod}},
    }


def number_field(path: str, kind: str, low: float, high: float, step: float | None = None, log: bool = False) -> Field:
    """A field that is a number: int or double, with both ends feasible."""
    space = {"min": _plain(low), "max": _plain(high)} | ({"step": _plain(step)} if step is not None else {})
    return Field(path, kind, space | ({"distribution": "logUniform"} if log else {}))


def list_field(path: str, values: Sequence[Any], form: str = "{}") -> Field:
    """A field with a few values: numbers are discrete, words categorical."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    texts = [_plain(value) if numbers else str(value) for value in values]
    return Field(path, "discrete" if numbers else "categorical", {"list": texts}, form)


def experiment_yaml(document: Mapping[str, Any], heading: str) -> str:
    """An Experiment as a file for people: short mappings on one line, a comment in front."""

    class Dumper(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)  # lists stand further in than their key

    class Short(dict[str, Any]):
        pass

    def shortened(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            inner = {name: shortened(each, str(name)) for name, each in value.items()}
            return Short(inner) if key in SHORT else inner
        return [shortened(each, key) for each in value] if isinstance(value, list) else value

    def quoted(dumper: Dumper, text: str) -> yaml.ScalarNode:
        """Kubernetes reads 1e-06 as a number where PyYAML sees a text."""
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if NUMBER.fullmatch(text) else None)

    Dumper.add_representer(str, quoted)
    Dumper.add_representer(
        Short, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)
    )
    body = yaml.dump(shortened(dict(document)), Dumper=Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + re.sub(r"'([\w./-]+)'(?=[,}\]]|$)", r'"\1"', body, flags=re.MULTILINE)


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"
