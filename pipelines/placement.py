"""Where the steps of a pipeline run on a cluster: nodes, resources, retries and credentials."""

from dataclasses import dataclass
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask, pipeline_context
from kfp.dsl.pipeline_channel import PipelineChannel

# Fixed when a recipe is compiled: Kubeflow takes no parameters here.
RETRIES = 2
SHARED_MEMORY = "8Gi"
HOURS = 24

USER = 1000
"""Who runs in our images; a namespace under the restricted pod security standard wants it said."""
LABELS = "modalrec.io/"
"""Begins the labels of pods: recipe and stage. Kubeflow itself labels each with its run, `pipeline/runid`."""

GPU_TAINT = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
"""What GPU nodes are usually tainted with: the default of a recipe's `tolerations`."""

STORE_SECRET = "mlpipeline-minio-artifact"  # noqa: S105  (a name; Kubeflow Pipelines brings this secret)
STORE_CONFIG = "modalrec-store"
STORE_VARIABLES = {"endpoint": "AWS_ENDPOINT_URL", "checkpoints": "MODALREC_CHECKPOINTS"}
"""From the config map's keys to what steps read."""
OPENAI_SECRET = "modalrec-openai"  # noqa: S105  (a name)
TRACKING = "modalrec-mlflow"
"""A config map, where MLflow is, and a secret, who asks it: without them nothing is tracked."""
TRACKING_VARIABLES = {"uri": "MLFLOW_TRACKING_URI", "experiment": "MLFLOW_EXPERIMENT_NAME"}
TRACKING_KEYS = {
    "token": "MLFLOW_TRACKING_TOKEN",
    "username": "MLFLOW_TRACKING_USERNAME",
    "password": "MLFLOW_TRACKING_PASSWORD",
}


@dataclass(frozen=True)
class Accelerator:
    """Which GPU nodes to ask for; all fields are pipeline parameters, set when a run is submitted.

    Attributes:
        resource: Name of the resource, such as nvidia.com/gpu.
        count: How many of it each step gets.
        node_selector: Labels that the node must have.
        tolerations: Taints of the node that do not matter.
        memory: Main memory of each step, asked for and not exceeded.
    """

    resource: Any
    count: Any
    node_selector: Any
    tolerations: Any
    memory: Any


def on_gpu(task: PipelineTask, accelerator: Accelerator) -> PipelineTask:
    """Places a step on a GPU node, with shared memory for data loaders.

    Args:
        task: The step.
        accelerator: The GPUs to ask for.

    Returns:
        The step.
    """
    # Inside a branch the compiler forgets parameters that occur in resources alone.
    wanted = (accelerator.resource, accelerator.count, accelerator.memory)
    task.register_pipeline_channels([value for value in wanted if isinstance(value, PipelineChannel)])
    task.set_accelerator_type(accelerator.resource).set_accelerator_limit(accelerator.count)
    kubernetes.add_node_selector_json(task, accelerator.node_selector)
    kubernetes.add_toleration_json(task, accelerator.tolerations)
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=SHARED_MEMORY)  # noqa: S108
    return _common(task, cpu="4", memory=accelerator.memory, memory_limit=accelerator.memory)


def on_cpu(task: PipelineTask) -> PipelineTask:
    """Places a step on any node.

    Args:
        task: The step.

    Returns:
        The step.
    """
    return _common(task, cpu="2", memory="4Gi", memory_limit="16Gi")


def with_openai_key(task: PipelineTask) -> PipelineTask:
    """Gives a step the key of OpenAI's interface, field `apikey` of its secret, where the namespace has that secret.

    Args:
        task: The step.

    Returns:
        The step.
    """
    return kubernetes.use_secret_as_env(task, OPENAI_SECRET, {"apikey": "OPENAI_API_KEY"}, optional=True)


def _common(task: PipelineTask, cpu: str, memory: Any, memory_limit: Any) -> PipelineTask:
    task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory_limit)
    task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2, backoff_max_duration="600s")
    kubernetes.set_timeout(task, HOURS * 3600)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.add_pod_label(task, f"{LABELS}recipe", pipeline_context.Pipeline.get_default_pipeline().name)
    kubernetes.add_pod_label(task, f"{LABELS}stage", task.component_spec.name)
    kubernetes.use_secret_as_env(
        task, STORE_SECRET, {"accesskey": "AWS_ACCESS_KEY_ID", "secretkey": "AWS_SECRET_ACCESS_KEY"}
    )
    kubernetes.use_config_map_as_env(task, STORE_CONFIG, STORE_VARIABLES)
    kubernetes.use_config_map_as_env(task, TRACKING, TRACKING_VARIABLES, optional=True)
    kubernetes.use_secret_as_env(task, TRACKING, TRACKING_KEYS, optional=True)
    return task
