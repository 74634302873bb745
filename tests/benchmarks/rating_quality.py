"""How well DLRM predicts stars, and what texts and pictures buy: beside the mean, biases and biased factorisation.

Random folds (leaky over time, as most published numbers), a split by time, and items that training has never met. Every
row learns from the train and the validation part; DLRM's settings were chosen on the validation part of the first fold
of MovieLens-100K alone, out of those in `TRIED` (`--tune` measures them again), and how long it trains on that of each
split. A trained model is kept in `out/cache/quality`, so an interrupted run goes on. A seed is another fold, or other
new items, and other weights.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from modalrec.artifacts import read_manifest
from modalrec.artifacts.events import read_curves
from tests.benchmarks._quality_data import CACHE, real_data, stage
from tests.benchmarks._quality_settings import over
from tests.benchmarks._rating_data import prepared_ratings

Row = dict[str, Any]
SPLITS = ("folds", "temporal", "new_items")
CHOSEN: Row = {
    "recommender": {"name": "dlrm", "interaction": "dcn_v2", "penalty": 0.02},
    "training": {"epochs": 10, "batch_size": 256, "learning_rate": 1e-3, "weight_decay": 1e-4, "schedule": "cosine"},
}
EPOCHS = {"folds": 7, "temporal": 5, "new_items": 3}
"""Those of EPOCHS_TRIED after whose last the error of the validation part of MovieLens-100K is the least: training that
learns from that part, too, has none to stop by."""
EPOCHS_TRIED = (3, 5, 7, 10)
ROWS: dict[str, tuple[str, ...]] = {
    "both": (),
    "text": ("image",),
    "image": ("text",),
    "none": ("content",),
}
"""From the modalities of DLRM to what it goes without."""
TRIED: list[Row] = [
    {},
    {"recommender": {"interaction": "dot"}},
    {"recommender": {"interaction": "concat"}},
    {"recommender": {"dropout": 0.4}},
    {"recommender": {"penalty": 0.1}},
    {"recommender": {"id_dropout": 0.3}},
]
BASELINES = ("biased_mf", "linear", "biases", "mean")
METRICS = ("rmse", "mae", "known_users_rmse", "new_users_rmse", "warm_items_rmse", "cold_items_rmse")


def main(argv: Sequence[str] = ()) -> None:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rating_quality", description=__doc__)
    parser.add_argument(
        "datasets",
        nargs="*",
        metavar="DATASET",
        help="ml_100k, ml_100k_60 (its first 60 %%), ml_latest_small",
        default=["ml_100k"],
    )
    parser.add_argument("--splits", nargs="+", metavar="SPLIT", default=list(SPLITS), help=", ".join(SPLITS))
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=list(ROWS), help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="measure every setting that was tried, on validation")
    parser.add_argument("--measured", action="store_true", help="print what is measured already and train nothing")
    given = parser.parse_args(argv)
    if real_data() is None:
        print("skipped: set MODALREC_DATA to the folder of real data")
        return
    for overrides in TRIED if given.tune else []:
        edges = prepared_ratings("ml_100k", "folds", 0)
        found = read_manifest(trained("ml_100k", "folds", over(CHOSEN, **overrides), 0, edges, "train"), "model")
        print(json.dumps(overrides), found.statistics["valid_neg_rmse"], found.statistics["best_epoch"], flush=True)
    for split, epochs in product(SPLITS, EPOCHS_TRIED) if given.tune else []:
        settings = over(CHOSEN, training={"epochs": epochs, "patience": 0})
        folder = trained("ml_100k", split, settings, 0, prepared_ratings("ml_100k", split, 0), "train")
        *_, (_, last) = read_curves(folder)
        print(split, epochs, last["neg_rmse"], flush=True)
    if given.tune:
        return
    for dataset in given.datasets:
        for split in given.splits:
            for seed in range(0 if given.measured else given.seeds):
                for row in given.rows:
                    measure(dataset, split, row, seed)
            table(dataset, split, given.rows, given.seeds)


def trained(
    dataset: str, split: str, settings: Row, seed: int, edges: dict[str, Path], fit_on: str = "train_and_valid"
) -> Path:
    """The folder of a model, trained unless it is there."""
    chosen = {**settings, "split": split, "fit_on": fit_on}
    key = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]
    folder = edges["dataset"].parent / "models" / f"dlrm-{seed}-{key}"
    if not (folder / "manifest.json").is_file():
        stage("finetune", settings=chosen, seed=seed, **edges, model=folder)
    return folder


def measure(dataset: str, split: str, row: str, seed: int) -> None:
    """Measures one seed of a row, unless that has been done for the same model."""
    edges = prepared_ratings(dataset, split, seed)
    settings = over(CHOSEN, recommender={"without": list(ROWS[row])}, training={"epochs": EPOCHS[split]})
    model, place = trained(dataset, split, settings, seed, edges), _place(dataset, split, row, seed)
    if place.is_dir() and read_manifest(place, "evaluation").inputs["model"] == read_manifest(model, "model").digest:
        return
    judged = {"split": split, "rows": {"ranked_users": 300}}
    found = stage("evaluate", settings=judged, seed=seed, **edges, model=model, evaluation=place)
    print(
        f"{dataset}, {split}, {row}, seed {seed}: rmse {found['rmse']:.4f}, {found['biased_mf_rmse']:.4f}", flush=True
    )


def _place(dataset: str, split: str, row: str, seed: int) -> Path:
    return CACHE / f"ratings_{dataset}_{split}_evaluations" / f"{row}-{seed}"


def table(dataset: str, split: str, rows: Sequence[str], seeds: int) -> None:
    """Means over the seeds measured and their spread, as Markdown."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        places = [_place(dataset, split, row, seed) / "metrics.json" for seed in range(seeds)]
        metrics = [json.loads(place.read_bytes()) for place in places if place.is_file()]
        if metrics:
            found[f"DLRM, {row}"] = metrics
    if not found:
        return
    first = max(found.values(), key=len)
    for name in BASELINES:
        found[name] = [{m: one[f"{name}_{m}"] for m in METRICS if f"{name}_{m}" in one} for one in first]
    counts = {name: first[0].get(name.replace("rmse", "rows"), 0) for name in METRICS[2:]}
    shown = [name for name in METRICS if counts.get(name, 1) and any(name in one for one in first)]
    print(f"\n{dataset}, {split}; rows of the first seed: {first[0]['rows']:,.0f}, {counts}", flush=True)
    print(f"| | seeds | {' | '.join(shown)} |\n|---|---|{'---|' * len(shown)}")
    for label, metrics in found.items():
        cells = []
        for name in shown:
            values = np.array([one[name] for one in metrics if name in one])
            spread = f" ({values.std(ddof=1):.4f})" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}" if len(values) else "")
        print(f"| {label} | {len(metrics)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
