"""The trial spec as Kubernetes would read it: a Job, strictly.

The pod is checked by the types of Kubernetes' API that come with Katib's models; those of a Job around it, which do not
come with them, are the fields of batch/v1 below.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from kubeflow_katib_api.models.io_k8s_api_core_v1_pod_template_spec import IoK8sApiCoreV1PodTemplateSpec
from kubeflow_katib_api.models.io_k8s_apimachinery_pkg_apis_meta_v1_object_meta import (
    IoK8sApimachineryPkgApisMetaV1ObjectMeta,
)

from modalrec.tuning.strict import through

JOB = {"apiVersion", "kind", "metadata", "spec"}
JOB_SPEC: dict[str, type] = {
    "activeDeadlineSeconds": int,
    "backoffLimit": int,
    "backoffLimitPerIndex": int,
    "completionMode": str,
    "completions": int,
    "managedBy": str,
    "manualSelector": bool,
    "maxFailedIndexes": int,
    "parallelism": int,
    "podFailurePolicy": dict,
    "podReplacementPolicy": str,
    "selector": dict,
    "successPolicy": dict,
    "suspend": bool,
    "template": dict,
    "ttlSecondsAfterFinished": int,
}
"""Fields of a JobSpec and their types (Kubernetes API, batch/v1)."""

RESTARTS = ("Never", "OnFailure")


def check_job(spec: Mapping[str, Any]) -> Iterator[str]:
    """What Kubernetes would refuse or, worse, drop without a word; each in one line that begins with the field."""
    where = "spec.trialTemplate.trialSpec"
    if (spec.get("apiVersion"), spec.get("kind")) != ("batch/v1", "Job"):
        yield f"{where}: {spec.get('apiVersion')} {spec.get('kind')} cannot be run here; a trial is a Job of batch/v1"
        return
    for field in sorted(spec.keys() - JOB):
        yield f"{where}.{field}: unknown field of a Job"
    inner = spec.get("spec")
    if not isinstance(inner, Mapping):
        yield f"{where}.spec: missing"
        return
    for field, value in inner.items():
        wanted = JOB_SPEC.get(field)
        if wanted is None:
            yield f"{where}.spec.{field}: unknown field of a Job's spec"
        elif not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            yield f"{where}.spec.{field}: {value!r} is not of type {wanted.__name__}"
    yield from _strict(IoK8sApimachineryPkgApisMetaV1ObjectMeta, spec.get("metadata") or {}, f"{where}.metadata")
    template = inner.get("template")
    if not isinstance(template, Mapping):
        yield f"{where}.spec.template: missing"
        return
    yield from _strict(IoK8sApiCoreV1PodTemplateSpec, template, f"{where}.spec.template")
    restart = (template.get("spec") or {}).get("restartPolicy")
    if restart not in RESTARTS:
        yield f"{where}.spec.template.spec.restartPolicy: {restart!r} must be Never or OnFailure in a Job"


def _strict(model: Any, given: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from (f"{where}.{problem}" for problem in through(model, given)[1])
