"""Embedding a catalogue on several nodes at a time: one step for each part of the items, and one that joins them."""

from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import PipelineTask

from components.embed_image.component import embed_image
from components.embed_text.component import embed_text
from components.join.component import join
from pipelines.placement import Accelerator, on_cpu, on_gpu, with_openai_key


def embedded(dataset: Any, config: Any, seed: Any, gpu: Accelerator) -> dict[str, Any]:
    """The vectors of texts and pictures, made in as many parts as the settings say.

    Args:
        dataset: The dataset.
        config: The outputs of `configure`.
        seed: Seed of all random draws.
        gpu: Where each part is made.

    Returns:
        `text_embeddings` and `image_embeddings` of all items.
    """

    def whole(stage: Callable[..., PipelineTask], name: str, parts: Any, output: str) -> Any:
        with dsl.ParallelFor(parts, name=f"{name} in parts") as part:
            task = on_gpu(stage(dataset=dataset, config=config[name], seed=seed, part=part), gpu)
            if name == "embed_text":
                with_openai_key(task)
        joined = on_cpu(join(parts=dsl.Collected(task.outputs[output])))
        return joined.set_display_name(f"join {output}").outputs["embeddings"]

    return {
        "text_embeddings": whole(embed_text, "embed_text", config["text_parts"], "text_embeddings"),
        "image_embeddings": whole(embed_image, "embed_image", config["image_parts"], "image_embeddings"),
    }
