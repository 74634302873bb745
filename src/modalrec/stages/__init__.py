"""The stages: one function each, paths in, paths out, a config, a run.

`STAGES` is the chain in order. A stage named `x` is the function `x` of the module `modalrec.stages.x`; its
configuration is the class `Config` of that module. Edge names are the function's arguments, the CLI's options, the
components' artifacts and the folders in the store.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modalrec.config import Config

EDGES = {
    "dataset": "dataset",
    "text_embeddings": "embeddings",
    "image_embeddings": "embeddings",
    "embeddings": "embeddings",
    "codes": "codes",
    "codebook": "codes",
    "pretrained": "model",
    "model": "model",
    "scratch": "model",
    "shuffled": "model",
    "temporal": "model",
    "without_popularity": "model",
    "without_codes": "model",
    "without_content": "model",
    "evaluation": "evaluation",
}
"""From edge name to the kind of artifact. `source` is the user's own data and has no kind."""

ABOUT_ITEMS = ("codes", "embeddings", "text_embeddings", "image_embeddings")
"""The edges that say more of items than the dataset does; every model takes some of them."""


@dataclass(frozen=True)
class StageSpec:
    """The edges of a stage.

    Attributes:
        inputs: Edges that must be given.
        optional: Edges that may be left out.
        outputs: Edges that the stage writes.
        summary: What it does, for `--help`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    summary: str
    optional: tuple[str, ...] = ()


STAGES = {
    "ingest": StageSpec(("source",), ("dataset",), "Read raw files into a checked, split dataset."),
    "embed_text": StageSpec(("dataset",), ("text_embeddings",), "Turn item texts into vectors."),
    "embed_image": StageSpec(("dataset",), ("image_embeddings",), "Turn item pictures into vectors."),
    "fuse": StageSpec(
        (),
        ("embeddings",),
        "Join text and image vectors.",
        optional=("text_embeddings", "image_embeddings", "dataset"),
    ),
    "quantize": StageSpec(
        (),
        ("codes",),
        "Turn vectors into semantic IDs or groups of codes.",
        optional=("embeddings", "text_embeddings", "image_embeddings", "dataset", "codebook"),
    ),
    "pretrain": StageSpec(
        ("dataset",), ("pretrained",), "Train a recommender on perturbed histories.", optional=ABOUT_ITEMS
    ),
    "finetune": StageSpec(
        ("dataset",),
        ("model",),
        "Train a recommender on histories as they are, or on labelled rows.",
        optional=(*ABOUT_ITEMS, "pretrained"),
    ),
    "evaluate": StageSpec(
        ("dataset", "model"),
        ("evaluation",),
        "Rank the whole catalogue for every test user, beside baselines, and write the report.",
        optional=(
            *ABOUT_ITEMS,
            *("pretrained", "scratch", "shuffled", "temporal"),
            *("without_popularity", "without_codes", "without_content"),
        ),
    ),
}


def load_stage(name: str) -> tuple[Callable[..., dict[str, float]], type[Config]]:
    """The function and the configuration class of a stage."""
    module: Any = importlib.import_module(f"modalrec.stages.{name}")
    return getattr(module, name), module.Config
