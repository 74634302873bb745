"""Codes as features of items: what a step of the published VQ-VAE costs, and how codes are used beside residual ones.

One batch of the preset `mmctr_vqvae` at its full size, then both presets on the titles of Amazon Scientific, the VQ-VAE
with a sixteenth of its slots (its full size would take hours). Takes some 5 minutes of one core and 5 GiB.
"""

import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modalrec import plugins
from modalrec.config import load_preset, resolve
from modalrec.run import Run
from modalrec.stages.quantize import Config, quantize
from tests.raw import ROOT
from tests.stages.small import write_embeddings

ITEMS = 10_000
SMALLER: dict[str, Any] = {"slots": 32, "width": 32}


def main(argv: Sequence[str] = ()) -> None:
    """Prints both."""
    torch.set_num_threads(1)
    step()
    data = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    file = data / "derived" / "scientific_text_minilm_l6_fp16.npy"
    if not file.is_file():
        print(f"usage skipped: no {file}; set MODALREC_DATA")
        return
    with tempfile.TemporaryDirectory() as folder:
        usage(np.load(file).astype(np.float32), Path(folder))


def step() -> None:
    """CPU-seconds of a batch of 512 vectors of 1,024 numbers, what of them is the search, and the most memory."""
    config = resolve(Config, load_preset("mmctr_vqvae")["quantize"])
    torch.manual_seed(0)
    vectors_ND = torch.nn.functional.normalize(torch.randn(config.training.batch_size, 1024), dim=1)
    quantizer = plugins.create("quantizers", config.quantizer, 1024).train()
    optimizer = torch.optim.AdamW(quantizer.parameters(), lr=1e-4, weight_decay=0)
    spent = []
    for _ in range(2):  # the first one also allocates
        begin = time.process_time()
        optimizer.zero_grad()
        quantizer.loss(vectors_ND)["loss"].backward()
        optimizer.step()
        spent.append(time.process_time() - begin)
    with torch.no_grad():
        hidden_NW = quantizer.encoder(vectors_ND)
    begin = time.process_time()
    quantizer.choose(hidden_NW)
    search = time.process_time() - begin
    batches = -(-int(ITEMS * (1 - config.valid_share)) // config.training.batch_size)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"mmctr_vqvae: a step of {len(vectors_ND)} items {spent[-1]:.1f} CPU-s, of which the search {search:.1f}")
    print(
        f"  an epoch of {ITEMS:,} items, {batches} steps: {batches * spent[-1]:.0f} CPU-s; peak memory {memory:.1f} GiB"
    )


def usage(vectors_ND: np.ndarray, folder: Path) -> None:
    """Error and use of the codes."""
    text = write_embeddings(folder / "text", vectors_ND)
    print("codes: relative error of all items, of new ones; usage, perplexity per code; of the codebook; distinct")
    for name, changes in (("mmctr_rq", {}), ("mmctr_vqvae", {"quantizer": SMALLER, "training": {"epochs": 30}})):
        config = resolve(Config, load_preset(name)["quantize"], changes)
        begin = time.process_time()
        metrics = quantize(folder / name, text_embeddings=text, config=config, run=Run("quantize", quiet=True))
        keys = ("relative_reconstruction_error", "held_out_relative_reconstruction_error", "usage", "perplexity")
        found = [f"{metrics[f'text_{key}']:.3f}" for key in keys]
        pooled = [
            f"{metrics[key]:.3f}" for key in ("text_codebook_usage", "text_codebook_perplexity") if key in metrics
        ]
        seconds = time.process_time() - begin
        print(
            f"{name:<12}", *found, *pooled, int(metrics["text_distinct"]), f"{seconds:.0f} CPU-s", sep="  ", flush=True
        )


if __name__ == "__main__":
    main()
