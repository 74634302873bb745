"""The recipe `rating`: how much a user will like an item, from ids, features, the moment, and texts and pictures.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from typing import Any

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.ingest.component import ingest
from modalrec.errors import ConfigError
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "rating"
STAGES = ["ingest", "embed_text", "embed_image", "finetune", "evaluate"]


@dsl.pipeline(
    name="rating",
    display_name="Ratings",
    description="Encode items' texts and pictures once, train DLRM on ratings, and measure it beside itself without "
    "them, biased matrix factorisation, a line through the same features, biases and the mean.",
)
@with_summary
def pipeline(
    source: str,
    preset: str = "rating",
    settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
    seed: int = 0,
    controls: bool = True,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [GPU_TAINT],  # noqa: B006
    gpu_memory: str = "32Gi",
) -> None:
    """Ratings from raw files to the report and the predictions.

    Args:
        source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
        preset: Set of settings to start from: rating; rating+rating_bert for BERT and ResNet-50, rating+rating_clip for
            CLIP.
        settings: Settings over the preset's, by stage, as JSON: {"finetune": {"training": {"epochs": 5}}}.
        seed: Seed of all random draws.
        controls: Also train the model without texts and pictures.
        accelerator: Resource name of the GPUs that encoding and training run on.
        accelerator_count: GPUs per step.
        node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
        tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
        gpu_memory: Main memory of each step on a GPU node.
    """
    gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
    config = on_cpu(configure(preset=preset, settings=settings, controls=controls, stages=STAGES)).outputs
    dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]
    vectors = embedded(dataset, config, seed, gpu)
    task = finetune(dataset=dataset, **vectors, config=config["finetune"], seed=seed)
    model = on_gpu(task.set_display_name("finetune"), gpu).outputs["model"]

    def judge(**others: Any) -> None:
        inputs = {"dataset": dataset, "model": model, **vectors, **others}
        on_cpu(evaluate(**inputs, config=config["evaluate"], seed=seed)).set_display_name("evaluate")

    with dsl.If(controls == True, name="with controls"):  # noqa: E712  (compiled, not evaluated here)
        task = finetune(dataset=dataset, config=config["finetune_without_content"], seed=seed)
        judge(without_content=on_gpu(task.set_display_name("finetune without content"), gpu).outputs["model"])
    with dsl.Else(name="without controls"):
        judge()


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: A setting is unknown or wrong, all of them in one message; or the model does not look at texts and
            pictures.
    """
    from modalrec.stages.configure import configure as resolve_all

    configs = resolve_all(arguments["preset"], arguments["settings"], arguments["controls"], stages=STAGES)
    if "finetune_without_content" not in configs:
        name = configs["finetune"]["recommender"]["name"]
        raise ConfigError(f"finetune.recommender.name={name}: is no model of this recipe; take dlrm")
