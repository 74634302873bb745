"""Whether texts help GRU4Rec: Amazon Scientific, leave-one-out, three uses of content, three seeds, by item support.

Takes some 15 minutes. The settings are the same for the three; learning rate and dropout were not tuned for any.
"""

import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.run import Run
from modalrec.stages import load_stage
from tests.raw import ROOT

SEEDS = range(3)
SETTINGS = {
    "recommender": {"name": "gru4rec", "layers": [128], "initialisation": "random", "logq": 1.0, "sample_alpha": 0.5}
    | {"dropout_p_embed": 0.4, "dropout_p_hidden": 0.2},
    "training": {"epochs": 30, "batch_size": 64, "learning_rate": 0.1, "patience": 4},
}
SUPPORT = {"0": (0, 0), "1 to 5": (1, 5), "6 to 20": (6, 20), "more": (21, 10**9)}


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    raw = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data")) / "amazon_scientific"
    if not raw.is_dir():
        print("skipped: set MODALREC_DATA to the folder that holds amazon_scientific/")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stage("ingest", raw, folder / "dataset")
        stage("embed_text", folder / "dataset", folder / "texts", settings={"encoder": {"name": "minilm"}})
        stage("fuse", text_embeddings=folder / "texts", embeddings=folder / "embeddings")
        support = Sequences.load(folder / "dataset", "leave_one_out").train_counts()
        print("recall_10 and ndcg_10 of all; then by train events of the target: recall_10 (median rank)")
        for content in ("none", "initialise", "sum"):
            runs = [measure(folder, content, seed, support) for seed in SEEDS]
            means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
            cells = [f"{key}: {means[key]:.4f} ({means[key + ' rank']:.0f})" for key in SUPPORT]
            print(f"{content:<11} {means['recall_10']:.4f} {means['ndcg_10']:.4f}  {'  '.join(cells)}", flush=True)


def stage(name: str, *places: Path, settings: dict[str, Any] | None = None, seed: int = 0, **edges: Path) -> Any:
    """Runs a stage."""
    function, config = load_stage(name)
    run = Run(name, seed=seed, device="cpu", quiet=True)
    return function(*places, **edges, config=resolve(config, settings or {}), run=run)


def measure(folder: Path, content: str, seed: int, support: np.ndarray) -> dict[str, float]:
    """One seed of one way."""
    model, out = folder / f"model_{content}_{seed}", folder / f"evaluation_{content}_{seed}"
    settings = {**SETTINGS, "recommender": {**SETTINGS["recommender"], "content": content}}
    places = {"dataset": folder / "dataset", "embeddings": folder / "embeddings", "model": model}
    stage("finetune", settings=settings, seed=seed, **places)
    judged = {"baselines": [], "bootstrap_samples": 100, "ties": "report"}
    metrics = stage("evaluate", folder / "dataset", model, out, settings=judged, seed=seed)
    ranks = pq.read_table(out / "ranks" / "model.parquet")
    place = ranks["greater"].to_numpy() + ranks["equal"].to_numpy() + 1
    seen = support[ranks["target"].to_numpy()]
    found = {"recall_10": metrics["recall_10"], "ndcg_10": metrics["ndcg_10"]}
    for key, (low, high) in SUPPORT.items():
        chosen = place[(seen >= low) & (seen <= high)]
        found |= {key: float((chosen <= 10).mean()), f"{key} rank": float(np.median(chosen))}
    return found
