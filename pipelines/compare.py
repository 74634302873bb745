"""The recipe `compare`: several recommenders on the same data, and one report of all.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from typing import Any

from kfp import dsl

from components.compare.component import compare
from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.fuse.component import fuse
from components.ingest.component import ingest
from components.quantize.component import quantize
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "compare"
STAGES = ["ingest", "embed_text", "embed_image", "fuse", "quantize", "finetune", "evaluate", "compare"]


@dsl.pipeline(
    name="compare",
    display_name="Comparison",
    description="Train several recommenders on the same items and histories, at the same time where there are nodes, "
    "and put them side by side: quality with its uncertainty, cost, and what texts and pictures add.",
)
@with_summary
def pipeline(
    source: str,
    preset: str = "compare",
    settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
    seed: int = 0,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [GPU_TAINT],  # noqa: B006
    gpu_memory: str = "32Gi",
) -> None:
    """Several recommenders from raw files to one report.

    Args:
        source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
        preset: Set of settings to start from: compare for recommenders, modalities for what content is worth.
        settings: Settings over the preset's, by stage, as JSON; a further recommender is what differs from the shared
            settings: {"compare": {"recommenders": {"wide": {"finetune": {"recommender": {"width": 256}}}}}}.
        seed: Seed of all random draws.
        accelerator: Resource name of the GPUs that encoding, quantizing and training run on.
        accelerator_count: GPUs per step.
        node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
        tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
        gpu_memory: Main memory of each step on a GPU node.
    """
    gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
    config = on_cpu(configure(preset=preset, settings=settings, controls=False, stages=STAGES)).outputs
    dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]
    vectors = embedded(dataset, config, seed, gpu)
    with dsl.ParallelFor(config["recommenders"], name="recommenders") as one:
        fused = fuse(dataset=dataset, **vectors, config=one.fuse, seed=seed)
        embeddings = on_cpu(fused).outputs["embeddings"]
        coded = quantize(embeddings=embeddings, dataset=dataset, **vectors, config=one.quantize, seed=seed)
        about = {"dataset": dataset, "codes": on_gpu(coded, gpu).outputs["codes"], "embeddings": embeddings}
        model = on_gpu(finetune(**about, config=one.finetune, seed=seed), gpu).outputs["model"]
        measured = on_cpu(evaluate(**about, model=model, config=one.evaluate, seed=seed))
    evaluations = dsl.Collected(measured.outputs["evaluation"])
    on_cpu(compare(evaluations=evaluations, dataset=dataset, config=config["compare"], seed=seed))


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: A setting is unknown or wrong; all of them in one message.
    """
    from modalrec.stages.configure import configure as resolve_all

    resolve_all(arguments["preset"], arguments["settings"], controls=False, stages=STAGES)
