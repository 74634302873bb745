"""Fusers and quantizers on real items: retrieval between CLIP's texts and pictures, and codes before positions.

The tables of the README. Skipped without the real data (MODALREC_DATA). Takes some 6 minutes.
"""

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages import fuse, quantize
from tests.raw import ROOT
from tests.stages.small import write_embeddings

SEEDS = range(3)
QUANTIZERS: dict[str, dict[str, Any]] = {
    "rq_kmeans": {"name": "rq_kmeans"},
    "rq_kmeans, balanced": {"name": "rq_kmeans", "balanced": True},
    "rqvae": {"name": "rqvae"},
    "fsq": {"name": "fsq"},
    "vqvae, 4 slots": {"name": "vqvae", "slots": 4},
    "opq": {"name": "opq"},
    "pq": {"name": "pq"},
}


def main(argv: Sequence[str] = ()) -> None:
    """Prints both tables."""
    data = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "amazon_scientific" / "mm_subset").is_dir():
        print(f"skipped: no real data at {data}; set MODALREC_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        fusers(data / "amazon_scientific" / "mm_subset", Path(folder) / "fusers")
        quantizers(data / "derived" / "scientific_text_minilm_l6_fp16.npy", Path(folder) / "quantizers")


def fusers(data: Path, folder: Path) -> None:
    """Held-out retrieval of each trained fuser, and before, over three seeds."""
    edges = {}
    for name, file in (("text", "feat1CLS"), ("image", "feat3CLS")):
        vectors_ND = np.fromfile(data / f"Scientific.{file}", np.float32).reshape(-1, 512)
        edges[f"{name}_embeddings"] = write_embeddings(folder / name, vectors_ND)
    before = ""
    print("fuser: R@1 / R@10 text to image, image to text; explained variance of text, image")
    for name in ("gated", "attention", "projection", "clip_align"):
        config = resolve(fuse.Config, {"fuser": {"name": name}, "test_share": 0.25})
        runs = []
        for seed in SEEDS:
            run = Run("fuse", seed=seed, device="cpu", quiet=True)
            runs.append(fuse.fuse(folder / f"{name}_{seed}", **edges, config=config, run=run))
        mean = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
        if not before:
            before = f"{'raw cosine':<12} {_found(mean, 'raw_')}\n{'procrustes':<12} {_found(mean, 'procrustes_')}"
            print(before)
        explained = f"{mean['text_explained_variance']:.2f} {mean['image_explained_variance']:.2f}"
        print(f"{name:<12} {_found(mean, '')}   {explained}", flush=True)


def quantizers(vectors: Path, folder: Path) -> None:
    """Items minus distinct IDs by the nearest codes and with distinct ones, 4 levels of 256 (240 for fsq)."""
    source = write_embeddings(folder / "vectors", np.load(vectors).astype(np.float32))
    print("quantizer: N minus distinct, error over variance, lowest utilisation")
    for name, settings in QUANTIZERS.items():
        size = {} if settings["name"] == "fsq" else {"codebook_size": 256}
        levels = {} if settings["name"] == "vqvae" else {"levels": 4}
        config = resolve(quantize.Config, {"quantizer": {**settings, **size, **levels}, "last_level": "distinct"})
        run = Run("quantize", device="cpu", quiet=True)
        found = quantize.quantize(folder / name.replace(", ", "_"), source, config=config, run=run)
        lowest = min(found[f"level_{level}_usage"] for level in (1, 2, 3, 4))
        collisions = f"{found['nearest_collisions']:>5.0f} -> {found['collisions']:.0f}"
        errors = f"{found['nearest_relative_reconstruction_error']:.4f} -> {found['relative_reconstruction_error']:.4f}"
        print(f"{name:<20} {collisions}   {errors}   {lowest:.1%}   left {found['collisions_left']:.0f}", flush=True)


def _found(mean: dict[str, float], before: str) -> str:
    ways = ("text_to_image", "image_to_text")
    return "   ".join(f"{mean[f'{before}{way}_recall_1']:.1%} / {mean[f'{before}{way}_recall_10']:.1%}" for way in ways)
