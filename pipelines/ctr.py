"""The recipe `ctr`: the probability of a click, from histories, features of items, and codes of texts and pictures.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from typing import Any

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.ingest.component import ingest
from components.quantize.component import quantize
from modalrec.errors import ConfigError
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "ctr"
STAGES = ["ingest", "embed_text", "embed_image", "quantize", "finetune", "evaluate"]


@dsl.pipeline(
    name="ctr",
    display_name="Clicks",
    description="Code items' texts and pictures, train a model of clicks on rows with a label, and measure it beside "
    "itself without popularity and without codes.",
)
@with_summary
def pipeline(
    source: str,
    preset: str = "mmctr",
    settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
    seed: int = 0,
    controls: bool = True,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [GPU_TAINT],  # noqa: B006
    gpu_memory: str = "32Gi",
) -> None:
    """Clicks from raw files to the report and the predictions.

    Args:
        source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
        preset: Set of settings to start from: mmctr as published, or ctr for ratings on a laptop.
        settings: Settings over the preset's, by stage, as JSON: {"finetune": {"training": {"epochs": 5}}}.
        seed: Seed of all random draws.
        controls: Also train the model without popularity fields and without codes.
        accelerator: Resource name of the GPUs that encoding, quantizing and training run on.
        accelerator_count: GPUs per step.
        node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
        tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
        gpu_memory: Main memory of each step on a GPU node.
    """
    gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
    config = on_cpu(configure(preset=preset, settings=settings, controls=controls, stages=STAGES)).outputs
    dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]
    vectors = {"dataset": dataset, **embedded(dataset, config, seed, gpu)}
    task = quantize(**vectors, config=config["quantize"], seed=seed)
    codes = on_gpu(task, gpu).outputs["codes"]

    def trained(name: str, title: str) -> Any:
        task = finetune(dataset=dataset, codes=codes, config=config[name], seed=seed)
        return on_gpu(task.set_display_name(title), gpu).outputs["model"]

    model = trained("finetune", "finetune")

    def judge(**others: Any) -> None:
        done = evaluate(**vectors, model=model, codes=codes, **others, config=config["evaluate"], seed=seed)
        on_cpu(done).set_display_name("evaluate")

    with dsl.If(controls == True, name="with controls"):  # noqa: E712  (compiled, not evaluated here)
        judge(
            without_popularity=trained("finetune_without_popularity", "finetune without popularity"),
            without_codes=trained("finetune_without_codes", "finetune without codes"),
        )
    with dsl.Else(name="without controls"):
        judge()


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: A setting is unknown or wrong, all of them in one message; or the model is none of rows.
    """
    from modalrec.stages.configure import configure as resolve_all

    configs = resolve_all(arguments["preset"], arguments["settings"], arguments["controls"], stages=STAGES)
    if "finetune_without_codes" not in configs:
        name = configs["finetune"]["recommender"]["name"]
        raise ConfigError(
            f"finetune.recommender.name={name}: learns from no labelled rows; take din or target_transformer"
        )
