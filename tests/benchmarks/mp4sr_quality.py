"""What MP4SR's parts are worth: pre-training and fine-tuning beside each alone, and each component taken away once.

Leave-one-out, the whole catalogue ranked, items of the history left out, ties against the model. Settings were chosen
on the validation part of `mm_subset`, seed 0, out of the ones in `TRIED` (`--tune` measures them again; as many as
sasrec had in `quality`); every row here has them but for what its name says, and no row was tuned by itself. A trained
model is kept in `out/cache/quality`, so an interrupted run goes on; a row takes about a minute of one idle core.
"""

import argparse
import csv
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modalrec.artifacts import read_manifest
from tests.benchmarks._quality_data import prepared, real_data, stage
from tests.benchmarks._quality_settings import over
from tests.benchmarks.quality import SAMPLES, evaluation, gains, interval
from tests.stages.small import write_embeddings

Row = dict[str, Any]
BATCH = {"batch_size": 128, "patience": 4}
PRETRAIN = {"epochs": 12, "learning_rate": 0.001, **BATCH}
FINETUNE = {"epochs": 30, "learning_rate": 0.0015, **BATCH}
MODEL = {"name": "mp4sr", "dropout": 0.5}
CHOSEN: Row = {"recommender": MODEL, "pretrain": PRETRAIN, "finetune": FINETUNE}
ALONE = {"epochs": 0}
ROWS: dict[str, Row] = {
    "mp4sr": {},
    "fine-tuned only": {"pretrain": ALONE},
    "pre-trained only": {"finetune": ALONE},
    "text only": {"recommender": {"modalities": "text"}},
    "image only": {"recommender": {"modalities": "image"}},
    "IDs only": {"recommender": {"modalities": "none"}, "pretrain": ALONE},
    "without IDs": {"recommender": {"ids": False}},
    "without mix-up": {"recommender": {"mix_up": 0.0}},
    "without dropped items": {"recommender": {"drop_items": 0.0}},
    "without contrast (CMCL)": {"recommender": {"cmcl_weight": 0.0}},
    "without next item (NIP)": {"recommender": {"nip_weight": 0.0, "cmcl_weight": 1.0}},
    "without experts": {"recommender": {"experts": 0}},
    "without whitening": {"recommender": {"whiten": False}},
    "texts as MiniLM's sentences": {"texts": "sentences"},
    "as published": {"recommender": {"published": True, "whiten": False}},
}
LONG: Row = {"pretrain": {"epochs": 4, "batch_size": 16}, "finetune": {"epochs": 8, "batch_size": 16, "patience": 3}}
"""Histories of hundreds of films: few windows, each with fifty targets; as `quality` has it."""
TRIED: list[Row] = [
    {},
    {"recommender": {"dropout": 0.2}},
    {"pretrain": ALONE, "recommender": {"dropout": 0.2}},
    {"pretrain": ALONE, "recommender": {"width": 128, "heads": 4}},
]
BESIDE = ("sasrec_ids", "sasrec_text_image")
"""Rows of `quality` that are shown where they have been measured."""


def main(argv: Sequence[str] = ()) -> None:
    """Trains what is missing and prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mp4sr_quality", description=__doc__)
    parser.add_argument(
        "datasets", nargs="*", metavar="DATASET", help="mm_subset, ml_latest_small", default=["mm_subset"]
    )
    parser.add_argument("--rows", nargs="+", metavar="ROW", default=list(ROWS), help="; ".join(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="measure every setting that was tried, on validation")
    parser.add_argument("--measured", action="store_true", help="print what is measured already and train nothing")
    given = parser.parse_args(argv)
    if real_data() is None:
        print("skipped: set MODALREC_DATA to the folder of real data")
        return
    for dataset in given.datasets:
        print(f"\n{dataset}", flush=True)
        for overrides in TRIED if given.tune else []:
            found = read_manifest(trained(dataset, over(CHOSEN, **overrides), 0), "model").statistics
            shown = {name: found[name] for name in ("valid_ndcg_10", "valid_recall_10", "best_epoch", "epochs")}
            print(f"{json.dumps(overrides)}: {shown}", flush=True)
        if given.tune:
            continue
        for seed in range(0 if given.measured else given.seeds):
            for row in given.rows:
                measure(dataset, row, seed)
        table(dataset, given.rows, given.seeds)


def edges_of(dataset: str, texts: str = "text_embeddings") -> dict[str, Path]:
    """The dataset with the vectors of its texts and pictures, made where they are missing."""
    source = prepared(dataset)
    images = source / "image_embeddings"
    if dataset == "ml_latest_small":
        texts = "sentences"
        if not images.is_dir():
            _posters(source / "dataset", images)
    edges = {"dataset": source / "dataset", "text_embeddings": source / texts, "image_embeddings": images}
    if texts == "sentences" and not edges["text_embeddings"].is_dir():
        settings = {"encoder": {"name": "minilm"}, "max_sentences": 10}
        stage("embed_text", edges["dataset"], edges["text_embeddings"], settings=settings)
    return edges


def _posters(dataset: Path, folder: Path) -> None:
    """The posters' vectors of MODALREC_DATA (EfficientNet-Lite0), by film."""
    data = real_data()
    assert data is not None
    found = np.load(data / "derived" / "ml1m_poster_effnet_lite0_fp16.npz")
    place = {str(film): row for row, film in enumerate(found["movie_id"])}
    with (data / "movielens" / "ml-latest-small" / "poster_map.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["movieId"]: place.get(row["ml1m_id"].removesuffix(".0"), -1) for row in csv.DictReader(file)}
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    places_N = np.array([rows.get(item, -1) for item in ids])
    write_embeddings(folder, found["emb"][np.maximum(places_N, 0)].astype(np.float32), places_N >= 0, item_ids=ids)


def trained(dataset: str, settings: Row, seed: int) -> Path:
    """The folder of a model, trained unless it is there; without epochs of fine-tuning the pre-trained one."""
    start = {}
    if settings["pretrain"]["epochs"]:
        start = {"pretrained": _train("pretrain", dataset, settings, seed, {})}
    if not settings["finetune"]["epochs"]:
        return start["pretrained"]
    return _train("finetune", dataset, settings, seed, start)


def _train(name: str, dataset: str, settings: Row, seed: int, start: dict[str, Path]) -> Path:
    chosen = {"recommender": settings["recommender"], "training": settings[name]}
    other = {"texts": settings["texts"]} if "texts" in settings else {}
    made_from = [chosen, [place.name for place in start.values()], *other.values()]
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]
    folder = prepared(dataset) / "models" / f"mp4sr-{name}-{seed}-{key}"
    if not (folder / "manifest.json").is_file():
        output = "pretrained" if name == "pretrain" else "model"
        stage(name, settings=chosen, seed=seed, **edges_of(dataset, **other), **start, **{output: folder})
    return folder


def measure(dataset: str, row: str, seed: int) -> None:
    """Ranks the test part for one seed of a row, unless that has been done for the same model."""
    settings = over(CHOSEN, **LONG) if dataset == "ml_latest_small" else CHOSEN
    settings = over(settings, **ROWS[row])
    model, place = trained(dataset, settings, seed), _place(dataset, row, seed)
    if place.is_dir() and read_manifest(place, "evaluation").inputs["model"] == read_manifest(model, "model").digest:
        return
    judged = {"ties": "report", "gallery_users": 0, "bootstrap_samples": 100, "cutoffs": [5, 10, 20, 50]}
    edges = edges_of(dataset, settings.get("texts", "text_embeddings"))
    found = stage("evaluate", settings=judged, seed=seed, **edges, model=model, evaluation=place)
    print(f"{row}, seed {seed}: recall_10 {found['recall_10']:.4f}, ndcg_10 {found['ndcg_10']:.4f}", flush=True)


def _place(dataset: str, row: str, seed: int) -> Path:
    return evaluation(dataset, f"mp4sr {row}".replace(" ", "_"), seed)


def table(dataset: str, rows: Sequence[str], seeds: int) -> None:
    """Means over the seeds measured, their spread, and what the first row has more, as Markdown."""
    places = {row: [_place(dataset, row, seed) for seed in range(seeds)] for row in rows}
    places |= {row: [evaluation(dataset, row, seed) for seed in range(seeds)] for row in BESIDE}
    found = {
        row: np.stack([gains(folder, "model") for folder in folders if folder.is_dir()])
        for row, folders in places.items()
        if any(folder.is_dir() for folder in folders)
    }
    anyone = next(folder for folder in places[next(iter(found))] if folder.is_dir())
    found |= {name: gains(anyone, name)[None] for name in ("item_knn", "item_knn_content")}
    best_MU = next(iter(found.values())).mean(0)
    users = np.random.default_rng(0).integers(0, best_MU.shape[1], (SAMPLES, best_MU.shape[1]))
    print("| | seeds | recall_10 (sd) | ndcg_10 (sd) | ndcg_10 less the first row's (95 %) |\n|---|---|---|---|---|")
    for row, gains_SMU in found.items():
        cells = [str(len(gains_SMU))]
        for metric in (0, 1):
            means_S = gains_SMU[:, metric].mean(1)
            cells.append(f"{means_S.mean():.4f}" + (f" ({means_S.std(ddof=1):.4f})" if len(means_S) > 1 else ""))
        difference_U = gains_SMU.mean(0)[1] - best_MU[1]
        low, high = interval(difference_U, users)
        cells.append(f"{difference_U.mean():+.4f} ({low:+.4f} to {high:+.4f})" if difference_U.any() else "")
        print(f"| {row} | {' | '.join(cells)} |".replace("0.", "."), flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
