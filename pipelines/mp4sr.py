"""The recipe `mp4sr`: texts and pictures as lists of vectors, multimodal pre-training, fine-tuning with item IDs.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from typing import Any

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.ingest.component import ingest
from components.pretrain.component import pretrain
from modalrec.errors import ConfigError
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "mp4sr"
STAGES = ["ingest", "embed_text", "embed_image", "pretrain", "finetune", "evaluate"]


@dsl.pipeline(
    name="mp4sr",
    display_name="Multimodal pre-training",
    description="Pre-train MP4SR on the items' texts and pictures, fine-tune it with item IDs, and rank the whole "
    "catalogue beside the model before and without pre-training, and baselines.",
)
@with_summary
def pipeline(
    source: str,
    preset: str = "mp4sr",
    settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
    seed: int = 0,
    controls: bool = True,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [GPU_TAINT],  # noqa: B006
    gpu_memory: str = "32Gi",
) -> None:
    """MP4SR from raw files to the report.

    Args:
        source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
        preset: Set of settings to start from: mp4sr; with a dataset's before it, such as pantry+mp4sr; or
            pantry+mp4sr_published, arts+mp4sr_published, office+mp4sr_published for what the authors' code computes.
        settings: Settings over the preset's, by stage, as JSON: {"pretrain": {"training": {"epochs": 5}}}.
        seed: Seed of all random draws.
        controls: Also fine-tune without pre-training, for as many epochs as both have.
        accelerator: Resource name of the GPUs that encoding and training run on.
        accelerator_count: GPUs per step.
        node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
        tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
        gpu_memory: Main memory of each step on a GPU node.
    """
    gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
    config = on_cpu(configure(preset=preset, settings=settings, controls=controls, stages=STAGES)).outputs
    dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]
    made_from = {"dataset": dataset, **embedded(dataset, config, seed, gpu)}
    task = pretrain(**made_from, config=config["pretrain"], seed=seed)
    pretrained = on_gpu(task, gpu).outputs["pretrained"]
    task = finetune(**made_from, pretrained=pretrained, config=config["finetune"], seed=seed)
    model = on_gpu(task.set_display_name("finetune"), gpu).outputs["model"]

    def judge(**others: Any) -> None:
        inputs = {**made_from, "model": model, "pretrained": pretrained, **others}
        on_cpu(evaluate(**inputs, config=config["evaluate"], seed=seed)).set_display_name("evaluate")

    with dsl.If(controls == True, name="with controls"):  # noqa: E712  (compiled, not evaluated here)
        task = finetune(**made_from, config=config["scratch"], seed=seed)
        judge(scratch=on_gpu(task.set_display_name("finetune from scratch"), gpu).outputs["model"])
    with dsl.Else(name="without controls"):
        judge()


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: A setting is unknown or wrong, all of them in one message; the model needs an edge that this recipe
            does not make; or keywords are embedded by another encoder than texts.
    """
    from modalrec.plugins import discover
    from modalrec.stages.configure import configure as resolve_all
    from modalrec.stages.finetune import Config

    configs = resolve_all(arguments["preset"], arguments["settings"], arguments["controls"], STAGES)
    recommender = Config.model_validate(configs["finetune"]).recommender
    foreign = discover("recommenders")[recommender.name].edges(recommender) - {"text_embeddings", "image_embeddings"}
    if foreign:
        raise ConfigError(
            f"finetune.recommender.name: {recommender.name} needs {', '.join(sorted(foreign))}, which this recipe does "
            "not make; take mp4sr, or the recipe semantic_id"
        )
    keywords = configs["embed_image"]["keywords"]
    if keywords and keywords["encoder"] != configs["embed_text"]["encoder"]:
        raise ConfigError(
            "embed_image.keywords.encoder: differs from embed_text.encoder, and both modalities are to lie in one "
            "space; set both"
        )
