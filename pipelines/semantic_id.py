"""The recipe `semantic_id`: items as short tuples of codes, recommended by an encoder-decoder.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from typing import Any

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.fuse.component import fuse
from components.ingest.component import ingest
from components.pretrain.component import pretrain
from components.quantize.component import quantize
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "laptop"


@dsl.pipeline(
    name="semantic-id",
    display_name="Semantic IDs",
    description="Turn items' texts and pictures into semantic IDs, train a recommender on them, and compare it with "
    "baselines and control runs.",
)
@with_summary
def pipeline(
    source: str,
    preset: str = "gpu",
    settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
    seed: int = 0,
    controls: bool = True,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    node_selector: dict = {},  # noqa: B006
    tolerations: list = [GPU_TAINT],  # noqa: B006
    gpu_memory: str = "32Gi",
) -> None:
    """Semantic IDs from raw files to the report.

    Args:
        source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
        preset: Set of settings to start from: tiny, laptop or gpu.
        settings: Settings over the preset's, by stage, as JSON: {"quantize": {"training": {"epochs": 50}}}.
        seed: Seed of all random draws.
        controls: Also train the control runs: without pretraining, on shuffled histories, on the temporal split.
        accelerator: Resource name of the GPUs that encoding, quantizing and training run on.
        accelerator_count: GPUs per step.
        node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
        tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
        gpu_memory: Main memory of each step on a GPU node.
    """
    gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
    config = on_cpu(configure(preset=preset, settings=settings, controls=controls, stages=[])).outputs

    dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]
    vectors = {"dataset": dataset, **embedded(dataset, config, seed, gpu)}
    embeddings = on_cpu(fuse(**vectors, config=config["fuse"], seed=seed)).outputs["embeddings"]
    task = quantize(embeddings=embeddings, **vectors, config=config["quantize"], seed=seed)
    codes = on_gpu(task, gpu).outputs["codes"]

    def pretrained_with(name: str, title: str) -> Any:
        task = pretrain(dataset=dataset, codes=codes, embeddings=embeddings, config=config[name], seed=seed)
        return on_gpu(task.set_display_name(title), gpu).outputs["pretrained"]

    def finetuned_with(name: str, title: str, **pretrained: Any) -> Any:
        made_from = {"dataset": dataset, "codes": codes, "embeddings": embeddings, **pretrained}
        task = finetune(**made_from, config=config[name], seed=seed)
        return on_gpu(task.set_display_name(title), gpu).outputs["model"]

    pretrained = pretrained_with("pretrain", "pretrain")
    model = finetuned_with("finetune", "finetune", pretrained=pretrained)

    def judge(**others: Any) -> None:
        inputs = {**vectors, "model": model, "codes": codes, "embeddings": embeddings, **others}
        on_cpu(evaluate(**inputs, pretrained=pretrained, config=config["evaluate"], seed=seed)).set_display_name(
            "evaluate"
        )

    with dsl.If(controls == True, name="with controls"):  # noqa: E712  (compiled, not evaluated here)
        scratch = finetuned_with("scratch", "finetune from scratch")
        shuffled = finetuned_with(
            "finetune_shuffled",
            "finetune shuffled",
            pretrained=pretrained_with("pretrain_shuffled", "pretrain shuffled"),
        )
        temporal = finetuned_with(
            "finetune_temporal",
            "finetune temporal",
            pretrained=pretrained_with("pretrain_temporal", "pretrain temporal"),
        )
        judge(scratch=scratch, shuffled=shuffled, temporal=temporal)
    with dsl.Else(name="without controls"):
        judge()


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: A setting is unknown or wrong; all of them in one message.
    """
    from modalrec.stages.configure import configure as resolve_all

    resolve_all(arguments["preset"], arguments["settings"], arguments["controls"])
