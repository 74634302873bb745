"""Running an Experiment on a cluster: it is created, followed to its end, and its trials are fetched.

The one module of the library that speaks to Kubernetes, as a client that is loaded when it is asked for; nothing that a
stage runs comes here.
"""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import urllib3

from modalrec.errors import ConfigError, TrainingError, UpstreamError
from modalrec.run import Progress, Run
from modalrec.tuning.experiment import Experiment, read_experiment

GROUP, VERSION, EXPERIMENTS, TRIALS = "kubeflow.org", "v1beta1", "experiments", "trials"
LABEL = "katib.kubeflow.org/experiment"
POLL_SECONDS = 10.0
UNAVAILABLE = "unavailable"
"""What Katib reports for a metric that a trial has not printed."""

RETRIES = urllib3.Retry(
    total=6,
    backoff_factor=1,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    respect_retry_after_header=False,
)
"""A cluster's API is away for moments, and a search takes days; what creates something is sent once."""

STATES = {"Succeeded": "succeeded", "EarlyStopped": "ended early", "Failed": "failed", "Killed": "failed"}
STATES["MetricsUnavailable"] = "failed"


def on_cluster(
    experiment: Experiment,
    *,
    places: Mapping[str, str] | None = None,
    assignments: Sequence[str] = (),
    image: str = "",
    trials: int | None = None,
    parallel: int | None = None,
) -> dict[str, Any]:
    """The Experiment with what a command says otherwise, as plain values.

    Args:
        experiment: The Experiment.
        places: From edge to `s3://` URI, for the options of the trials' command.
        assignments: Settings of every trial over its own.
        image: The trials' image; empty for the file's.
        trials: Completed trials that end it; None for the file's.
        parallel: Trials at a time; None for the file's.

    Raises:
        ConfigError: A place is none that a cluster can read, or Katib would refuse the result.
    """
    for edge, place in (places or {}).items():
        if not place.startswith("s3://"):
            raise ConfigError(f"--{edge} {place}: trials on a cluster read s3:// URIs; upload it and give its address")
    document = copy.deepcopy(dict(experiment.document))
    spec = document["spec"]
    if trials is not None:
        spec["maxTrialCount"] = trials
        for field in ("parallelTrialCount", "maxFailedTrialCount"):
            if spec.get(field) is not None:
                spec[field] = min(spec[field], trials)
    if parallel is not None:
        spec["parallelTrialCount"] = parallel
    command = experiment.template.unfilled().with_places(places or {}).adding(assignments)
    pod = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    container = next(each for each in pod["containers"] if each["name"] == experiment.template.container)
    program = len(container.get("command") or ())
    container["args"] = list(command.words[program:])
    if image:
        container["image"] = image
    return dict(read_experiment(document, experiment.name).document)


@dataclass(frozen=True)
class Cluster:
    """Katib's API in one namespace.

    Attributes:
        namespace: The namespace.
        seconds: Time between two looks.
    """

    namespace: str
    seconds: float = POLL_SECONDS

    def run(self, document: Mapping[str, Any], run: Run) -> list[dict[str, Any]]:
        """Creates an Experiment, or goes on following the one of its name, until it ends.

        Args:
            document: The Experiment.
            run: Shows its progress.

        Returns:
            Every ended trial as plain values, as `results.rows` lists them.

        Raises:
            ConfigError: The cluster refuses it, or another Experiment has its name.
            TrainingError: It ended without success.
            UpstreamError: No cluster is configured here, or it does not answer.
        """
        name = document["metadata"]["name"]
        self._create(document, run)
        with run.progress("trials", document["spec"].get("maxTrialCount")) as progress:
            while True:
                found = self._call("get_namespaced_custom_object", EXPERIMENTS, name=name)
                status = found.get("status") or {}
                _show(status, progress)
                ended = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
                if "Succeeded" in ended or "Failed" in ended:
                    break
                time.sleep(self.seconds)
        listed = self._call("list_namespaced_custom_object", TRIALS, label_selector=f"{LABEL}={name}")
        objective = found["spec"]["objective"]
        strategies = {each["name"]: each["value"] for each in objective.get("metricStrategies") or ()}
        rows = trial_rows(listed.get("items") or [], objective, strategies)
        if "Failed" in ended and not any(row["value"] is not None for row in rows):
            raise TrainingError(
                f"{name}: {ended['Failed'].get('message', 'it has failed')}; look at the pods of its trials, "
                f"`kubectl -n {self.namespace} get trials -l {LABEL}={name}`"
            )
        return rows

    def _create(self, document: Mapping[str, Any], run: Run) -> None:
        name = document["metadata"]["name"]
        try:
            self._call("create_namespaced_custom_object", EXPERIMENTS, body=dict(document))
            run.say(f"created the experiment {name} in {self.namespace}")
        except _Exists:
            known = self._call("get_namespaced_custom_object", EXPERIMENTS, name=name)
            if _command(known) != _command(document):
                raise ConfigError(
                    f"{name}: another experiment of this name is in {self.namespace}; delete it with `kubectl -n "
                    f"{self.namespace} delete experiment {name}`, or rename this one"
                ) from None
            run.say(f"the experiment {name} is in {self.namespace} already; following it")

    def _call(self, method: str, plural: str, **arguments: Any) -> Any:
        from kubernetes import client
        from kubernetes.client.exceptions import ApiException

        try:
            return getattr(client.CustomObjectsApi(_connection()), method)(
                GROUP, VERSION, self.namespace, plural, **arguments
            )
        except ApiException as error:
            if error.status == 409:
                raise _Exists from None
            said = f"{error.status} {error.reason}: {error.body}"
            if error.status in (401, 403):
                raise UpstreamError(
                    f"{self.namespace}: not allowed ({said}); apply manifests/components/tuning"
                ) from None
            if error.status == 404:
                raise UpstreamError(
                    f"{plural}: not found ({said}); is Katib installed, and the namespace right?"
                ) from None
            if error.status == 429 or (error.status or 0) >= 500:
                raise UpstreamError(
                    f"the cluster fails ({said}); the same command goes on where it is up again"
                ) from None
            raise ConfigError(f"the cluster refuses the request ({said}); correct the experiment") from None
        except urllib3.exceptions.HTTPError as error:
            raise UpstreamError(
                f"the cluster does not answer ({error}); check `kubectl cluster-info`, and run it again"
            ) from None


class _Exists(Exception):
    """The cluster has an object of this name."""


def _connection() -> Any:
    """A client for the cluster that this runs in, or that the user's configuration names."""
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.retries = RETRIES
    try:
        config.load_incluster_config(configuration)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise UpstreamError(
                f"no cluster is configured here ({error}); set KUBECONFIG, or use --engine optuna"
            ) from None
    return client.ApiClient(configuration)


def trial_rows(
    trials: Sequence[Mapping[str, Any]], objective: Mapping[str, Any], strategies: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Ended trials of a cluster in the order they were made, as `results.rows` lists those of a laptop.

    Args:
        trials: Katib's Trial objects.
        objective: The Experiment's objective.
        strategies: From metric to which of its values counts; by default the best one.
    """
    usual = "max" if objective["type"] == "maximize" else "min"
    rows: list[dict[str, Any]] = []
    for trial in sorted(trials, key=lambda each: each["metadata"].get("creationTimestamp", "")):
        status = trial.get("status") or {}
        conditions = {each["type"]: each for each in status.get("conditions") or () if each["status"] == "True"}
        state = next((STATES[kind] for kind in STATES if kind in conditions), None)
        if state is None:
            continue
        metrics: dict[str, float] = {}
        for each in (status.get("observation") or {}).get("metrics") or ():
            text = each.get(strategies.get(each["name"], usual), UNAVAILABLE)
            text = each.get("latest", UNAVAILABLE) if text == UNAVAILABLE else text
            metrics |= {each["name"]: float(text)} if text != UNAVAILABLE else {}
        told = next((conditions[kind].get("message") for kind in STATES if kind in conditions), "")
        value = metrics.get(objective["objectiveMetricName"]) if state == "succeeded" else None
        assignments = trial["spec"].get("parameterAssignments") or ()
        rows.append(
            {
                "trial": len(rows),
                "name": trial["metadata"]["name"],
                "state": state,
                "value": value,
                "parameters": {each["name"]: each["value"] for each in assignments},
                "metrics": metrics,
                "epochs": [],
                "seconds": _seconds(status),
                "error": told if state == "failed" else None,
            }
        )
    return rows


def _show(status: Mapping[str, Any], progress: Progress) -> None:
    counts = ("trialsSucceeded", "trialsFailed", "trialsEarlyStopped", "trialsKilled", "trialMetricsUnavailable")
    done = sum(status.get(count) or 0 for count in counts)
    best = ((status.get("currentOptimalTrial") or {}).get("observation") or {}).get("metrics") or ()
    values = {f"best {each['name']}": float(each["latest"]) for each in best[:1] if each["latest"] != UNAVAILABLE}
    if done > progress.done:
        progress.advance(done - progress.done, **values)


def _seconds(status: Mapping[str, Any]) -> float | None:
    begin, end = status.get("startTime"), status.get("completionTime")
    if not begin or not end:
        return None
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _command(document: Mapping[str, Any]) -> Any:
    """What tells two Experiments apart: what is searched, and the trial. Katib adds defaults to all else."""
    spec = document["spec"]
    names = [
        (each["name"], each["feasibleSpace"].get("min"), each["feasibleSpace"].get("list"))
        for each in spec["parameters"]
    ]
    return names, spec["trialTemplate"]["trialSpec"]
