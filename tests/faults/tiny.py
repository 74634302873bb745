"""The smallest runs of every trained plug-in through its stage, for processes that are killed in the middle of them."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from modalrec import plugins
from modalrec.artifacts import manifest
from modalrec.config import resolve
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.testing.quantizers import mixture
from modalrec.training import checkpoint
from tests.faults.processes import Moments
from tests.quantizers.test_contract import FORMS as QUANTIZERS
from tests.recommenders.test_row_contract import SMALL
from tests.rows import clicks
from tests.stages import trained
from tests.stages.small import write_embeddings, write_vectors
from tests.stages.test_mp4sr_stages import make
from tests.stages.test_rows import code as code_groups

WIDTH = {"width": 8, "dropout": 0.1, "history": 8}
TRAINING = {"epochs": 2, "batch_size": 4}
OF_HISTORIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "encoder_decoder": ({**WIDTH, "layers": 1, "heads": 2, "beam_size": 20}, ["codes"]),
    "encoder_decoder t5": ({**WIDTH, "layers": 1, "heads": 2, "beam_size": 20, "form": "t5"}, ["codes"]),
    "encoder_retrieve": ({**WIDTH, "layers": 1, "heads": 2}, ["codes"]),
    "gru4rec": ({"layers": [8], "n_sample": 16}, []),
    "gru4rec torch": ({"layers": [8], "n_sample": 16, "engine": "torch"}, []),
    "hybrid": ({**WIDTH, "layers": 1, "heads": 2}, ["codes", "embeddings"]),
    "mp4sr": ({"width": 8, "history": 8, "experts": 2}, ["text_embeddings", "image_embeddings"]),
    "sasrec": ({**WIDTH, "layers": 1, "heads": 2}, []),
}


@dataclass(frozen=True)
class Tiny:
    """A stage with the settings and edges of a small run."""

    stage: str
    settings: dict[str, Any]
    edges: dict[str, str]

    @property
    def output(self) -> str:
        """The edge that the stage writes."""
        return {"quantize": "codes", "fuse": "embeddings", "pretrain": "pretrained", "finetune": "model"}[self.stage]


def _tiny() -> dict[str, Tiny]:
    found = {}
    for form, (name, settings) in QUANTIZERS.items():
        chosen = {"quantizer": {"name": name, **settings}, "training": {"epochs": 2, "batch_size": 64}}
        found[f"quantize {form}"] = Tiny("quantize", chosen, {"embeddings": "vectors"})
    for name in plugins.discover("fusers"):
        chosen = {"fuser": {"name": name}, "training": {"epochs": 2, "batch_size": 32}}
        edges = {"text_embeddings": "texts", "image_embeddings": "pictures"}
        found[f"fuse {name}"] = Tiny("fuse", chosen, edges)
    for form, (settings, needed) in OF_HISTORIES.items():
        chosen = {"recommender": {"name": form.partition(" ")[0], **settings}, "training": TRAINING}
        for stage in ("pretrain", "finetune"):
            found[f"{stage} {form}"] = Tiny(stage, chosen, {edge: edge for edge in ["dataset", *needed]})
    for name in [name for name, plugin in plugins.discover("recommenders").items() if issubclass(plugin, RowModel)]:
        training = {"epochs": 1, "batch_size": 512}
        chosen = {"recommender": {"name": name, **SMALL.get(name, {})}, "split": "random", "training": training}
        found[f"finetune {name}"] = Tiny("finetune", chosen, {"dataset": "rows", "codes": "groups"})
    return found


TINY = _tiny()


def write_inputs(folder: Path) -> Path:
    """Everything that the runs of `TINY` read, by the names in their edges."""
    make(folder, 12, 8)  # dataset, text_embeddings, image_embeddings
    trained.code(folder, folder / "dataset")
    trained.embed(folder, folder / "dataset")
    code_groups(folder / "groups", clicks(folder / "rows"))
    write_embeddings(folder / "vectors", mixture()[0].numpy())
    ids = [f"i{row}" for row in range(96)]
    write_vectors(folder / "texts", ids, [row % 7 > 0 for row in range(96)], 8, seed=1)
    write_vectors(folder / "pictures", ids, [row % 5 > 0 for row in range(96)], 6, seed=2)
    return folder


def run_tiny(name: str, inputs: Path, place: Path, run: Mapping[str, Any] | None = None) -> Path:
    """Runs one of them with a checkpoint after every step; the artifact is `place / "out"`."""
    tiny = TINY[name]
    function, config = load_stage(tiny.stage)
    limits = {"seed": 3, "device": "cpu", "quiet": True, "checkpoint_seconds": 0, **(run or {})}
    edges = {edge: inputs / folder for edge, folder in tiny.edges.items()} | {tiny.output: place / "out"}
    chosen = Run(tiny.stage, **{"checkpoints": str(place / "checkpoints"), **limits})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # The sources may be edited between two processes; that another program does not resume is tested elsewhere.
        with mock.patch.object(checkpoint, "code_version", _one), mock.patch.object(manifest, "code_version", _one):
            function(**edges, config=resolve(config, tiny.settings), run=chosen)
    finally:
        torch.set_num_threads(threads)
    return place / "out"


def _one() -> str:
    return "one"


def run_watched(
    name: str, inputs: Path, place: Path, moments: Mapping[str, Any] | None = None, run: Mapping[str, Any] | None = None
) -> None:
    """Runs one until a moment; one that is not killed notes how many there were, and the seconds it took."""
    begin = time.process_time()
    watched = Moments(**(moments or {})).watch()
    run_tiny(name, inputs, place, run)
    (place / "spent").write_text(f"{watched.count} {time.process_time() - begin}")
