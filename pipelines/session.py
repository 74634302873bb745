"""The recipe `session`: GRU4Rec on sessions, every next item of the test sessions ranked among all items.

`pipeline` is the recipe; `check` is what a local run verifies before it starts anything.
"""

from collections.abc import Sequence
from typing import Any

from kfp import dsl

from components.configure.component import configure
from components.evaluate.component import evaluate
from components.finetune.component import finetune
from components.fuse.component import fuse
from components.images import image
from components.ingest.component import ingest
from components.tune.component import tune
from modalrec.errors import ConfigError
from pipelines.closing import with_summary
from pipelines.fan_out import embedded
from pipelines.placement import GPU_TAINT, Accelerator, on_cpu, on_gpu

LAPTOP_PRESET = "session"
STAGES = ["ingest", "embed_text", "embed_image", "fuse", "finetune", "evaluate"]
TUNED = "session_tuned"
"""The recipe that searches the settings of `finetune` first."""


def recipe(name: str, title: str, description: str, stages: list[str]) -> Any:
    """The pipeline of these stages; with `tune` among them a search comes before `finetune`.

    Args:
        name: Kubeflow's name of it.
        title: What people read.
        description: What it does.
        stages: Of `STAGES`, and `tune`.
    """

    @dsl.pipeline(name=name, display_name=title, description=description)
    @with_summary
    def pipeline(
        source: str,
        preset: str = "session",
        settings: dict = {},  # noqa: B006  (Kubeflow reads the default from here)
        seed: int = 0,
        content: bool = False,
        accelerator: str = "nvidia.com/gpu",
        accelerator_count: int = 1,
        node_selector: dict = {},  # noqa: B006
        tolerations: list = [GPU_TAINT],  # noqa: B006
        gpu_memory: str = "32Gi",
    ) -> None:
        """Sessions from raw files to the report.

        Args:
            source: Raw files: an s3:// URI of a folder. Another content needs another URI, for the cache.
            preset: Set of settings to start from: session, or a published one, rsc15, yoochoose, rees46, coveo,
                retailrocket, diginetica.
            settings: Settings over the preset's, by stage, as JSON: {"finetune": {"training": {"epochs": 5}}}.
            seed: Seed of all random draws.
            content: Embed the items' texts and pictures, for finetune.recommender.content=initialise or sum.
            accelerator: Resource name of the GPUs that encoding and training run on.
            accelerator_count: GPUs per step.
            node_selector: Labels of the GPU nodes, as JSON: {"cloud.google.com/gke-accelerator": "nvidia-l4"}.
            tolerations: Taints of the GPU nodes to tolerate, as a JSON list of Kubernetes tolerations.
            gpu_memory: Main memory of each step on a GPU node.
        """
        gpu = Accelerator(accelerator, accelerator_count, node_selector, tolerations, gpu_memory)
        config = on_cpu(configure(preset=preset, settings=settings, controls=False, stages=stages)).outputs
        dataset = on_cpu(ingest(source=source, config=config["ingest"], seed=seed)).outputs["dataset"]

        def judge(**content: Any) -> None:
            chosen = config["finetune"]
            if "tune" in stages:
                found = tune(
                    dataset=dataset,
                    **content,
                    config=chosen,
                    search=config["tune"],
                    seed=seed,
                    image=image("train"),
                    accelerator=accelerator,
                    accelerator_count=accelerator_count,
                    node_selector=node_selector,
                    tolerations=tolerations,
                    gpu_memory=gpu_memory,
                )
                chosen = on_cpu(found.set_display_name("tune")).outputs["finetune"]
            task = finetune(dataset=dataset, **content, config=chosen, seed=seed)
            model = on_gpu(task.set_display_name("finetune"), gpu).outputs["model"]
            done = evaluate(dataset=dataset, model=model, **content, config=config["evaluate"], seed=seed)
            on_cpu(done).set_display_name("evaluate")

        with dsl.If(content == True, name="with content"):  # noqa: E712  (compiled, not evaluated here)
            vectors = embedded(dataset, config, seed, gpu)
            fused = fuse(dataset=dataset, **vectors, config=config["fuse"], seed=seed)
            judge(embeddings=on_cpu(fused).outputs["embeddings"])
        with dsl.Else(name="without content"):
            judge()

    return pipeline


pipeline = recipe(
    "session",
    "Sessions",
    "Train GRU4Rec on sessions, with or without the items' texts and pictures, and rank every next item of the test "
    "sessions beside baselines.",
    STAGES,
)


def check(arguments: dict[str, Any], stages: Sequence[str] = STAGES) -> dict[str, dict[str, Any]]:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.
        stages: The pipeline's stages.

    Returns:
        The resolved configuration of every stage.

    Raises:
        ConfigError: A setting is unknown or wrong, all of them in one message; or the model wants content and the run
            makes none.
    """
    from modalrec.stages.configure import configure as resolve_all

    configs = resolve_all(arguments["preset"], arguments["settings"], stages=stages)
    wanted = configs["finetune"]["recommender"].get("content", "none")
    if (wanted != "none") != bool(arguments.get("content", False)):
        raise ConfigError(
            f"content: the run says {bool(arguments.get('content', False))}, and finetune.recommender.content is "
            f"{wanted}; give content=true with initialise or sum, and neither without"
        )
    return configs
