"""How good every recommender is, beside cheap baselines: the README's tables of quality.

Leave-one-out, the whole catalogue ranked, items of the history left out, ties against the model. Settings are chosen on
the validation part alone, out of as many for each trained recommender (`python -m tests.benchmarks.quality DATASET
--tune` measures them all), and the test part is ranked once for each of three seeds. A trained model is kept in
`out/cache/quality`, so an interrupted run goes on. One process takes some hours: give names of rows to share the work.
"""

import argparse
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts import read_manifest
from modalrec.data.sequences import Sequences
from tests.benchmarks._quality_data import coded, prepared, real_data, split_of, stage
from tests.benchmarks._quality_settings import CHOSEN, START, TRIED, over, row_names

BASELINES = ("popularity", "item_knn", "content_nn", "item_knn_content")
SAMPLES = 2000
CUTOFF = 10


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality", description=__doc__)
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help=", ".join(CHOSEN))
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="of the table; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="measure every setting that was tried, on validation")
    given = parser.parse_args(argv)
    if real_data() is None:
        print("skipped: set MODALREC_DATA to the folder of real data")
        return
    for dataset in given.datasets or CHOSEN:
        print(f"\n{dataset}", flush=True)
        for row in given.rows or (list(TRIED) if given.tune else row_names(dataset)):
            if given.tune:
                tune(dataset, row)
            else:
                measure(dataset, row, given.seeds)
        if not given.tune:
            if split_of(dataset) == "cold_items":
                table_of_new_items(dataset, given.rows or row_names(dataset), given.seeds)
                continue
            table(dataset, given.rows or row_names(dataset), given.seeds)


def tune(dataset: str, row: str) -> None:
    """Prints the validation metrics of every setting that was tried for a row."""
    for overrides in TRIED[row]:
        settings = over(START[row], **overrides)
        folder = trained(dataset, row, settings, seed=0)
        found = read_manifest(folder, "model").statistics
        print(
            f"{row:<24} valid ndcg_10 {found['valid_ndcg_10']:.4f}  recall_10 {found['valid_recall_10']:.4f}  epoch "
            f"{found['best_epoch']}/{found['epochs']}  {json.dumps(overrides)}",
            flush=True,
        )


def trained(dataset: str, row: str, settings: dict[str, Any], seed: int) -> Path:
    """The folder of a model with these settings, trained unless it is there."""
    source = prepared(dataset)
    settings = dict(settings)
    codes, vectors = settings.pop("codes", None), settings.pop("embeddings", "embeddings")
    if split_of(dataset) != "leave_one_out":
        settings["split"] = split_of(dataset)
    key = hashlib.sha256(json.dumps([settings, codes, vectors, seed], sort_keys=True).encode()).hexdigest()[:12]
    folder = source / "models" / f"{row}-{seed}-{key}"
    if not (folder / "manifest.json").is_file():
        edges = {"dataset": source / "dataset", "embeddings": source / vectors}
        if codes:
            edges["codes"] = coded(dataset, codes, vectors)
        stage("finetune", settings=settings, seed=seed, **edges, model=folder)
    return folder


def measure(dataset: str, row: str, seeds: int) -> None:
    """Trains and ranks the test part, once for each seed."""
    settings = CHOSEN[dataset][row]
    for seed in range(settings.get("seeds", seeds)):
        chosen = {key: value for key, value in settings.items() if key != "seeds"}
        model = trained(dataset, row, chosen, seed)
        place = evaluation(dataset, row, seed)
        digest = read_manifest(model, "model").digest
        if place.is_dir() and read_manifest(place, "evaluation").inputs["model"] != digest:
            shutil.rmtree(place)
        if not place.is_dir():
            source = prepared(dataset)
            judged = {
                "split": split_of(dataset),
                "ties": "report",
                "list_length": 20,
                "gallery_users": 0,
                "beam_sample": 100,
            }
            if settings["recommender"].get("form") == "t5":
                judged["beam_sample"] = 20
            vectors = source / chosen.get("embeddings", "embeddings")
            edges = {"dataset": source / "dataset", "model": model, "embeddings": vectors, "evaluation": place}
            metrics = stage("evaluate", settings=judged, seed=seed, **edges)
            agreement = f", beam agreement {metrics['beam_agreement_10']:.3f}" if "beam_agreement_10" in metrics else ""
            found = f"recall_10 {metrics['recall_10']:.4f}, ndcg_10 {metrics['ndcg_10']:.4f}"
            print(f"{row}, seed {seed}: {found}{agreement}", flush=True)


def evaluation(dataset: str, row: str, seed: int) -> Path:
    """Where the test part's ranks of a row are kept."""
    return prepared(dataset) / "evaluations" / f"{row}-{seed}"


def table(dataset: str, rows: Sequence[str], seeds: int) -> None:
    """Means over seeds with their spread, intervals over users, and differences to the best baseline, as Markdown."""
    anyone = evaluation(dataset, rows[0], 0)
    per_user = {name: gains(anyone, name)[None] for name in BASELINES}
    per_user |= {
        row: np.stack([gains(evaluation(dataset, row, seed), "model") for seed in range(n_seeds(dataset, row, seeds))])
        for row in rows
    }
    n_users = per_user["popularity"].shape[2]
    users = np.random.default_rng(0).integers(0, n_users, (SAMPLES, n_users))
    print("| | recall_10 (sd; 95 %) | ndcg_10 (sd; 95 %) | recall_10 less item_knn_content | ndcg_10 less it |")
    print("|---|---|---|---|---|")
    for name, gains_SMU in per_user.items():
        mean_MU = gains_SMU.mean(0)
        cells = []
        for metric in (0, 1):
            spread = f"{gains_SMU[:, metric].mean(1).std(ddof=1):.4f}; " if len(gains_SMU) > 1 else ""
            low, high = interval(mean_MU[metric], users)
            cells.append(f"{mean_MU[metric].mean():.4f} ({spread}{low:.4f} to {high:.4f})")
        for difference_U in mean_MU - per_user["item_knn_content"][0]:
            low, high = interval(difference_U, users)
            cells.append(f"{difference_U.mean():+.4f} ({low:+.4f} to {high:+.4f})")
        print(f"| {name} | {' | '.join(cells)} |".replace("0.", "."), flush=True)


def table_of_new_items(dataset: str, rows: Sequence[str], seeds: int) -> None:
    """recall_10 and ndcg_10 of all, warm and cold targets as Markdown: means over seeds; how sure the cold ones are."""
    counts_N = Sequences.load(prepared(dataset) / "dataset", split_of(dataset)).train_counts()
    anyone = evaluation(dataset, rows[0], 0)
    cold_U = counts_N[pq.read_table(anyone / "ranks" / "model.parquet")["target"].to_numpy()] == 0
    places = {name: [(anyone, name)] for name in BASELINES}
    places |= {
        row: [(evaluation(dataset, row, seed), "model") for seed in range(n_seeds(dataset, row, seeds))] for row in rows
    }
    users = np.random.default_rng(0).integers(0, cold_U.sum(), (SAMPLES, cold_U.sum()))
    print(f"{len(cold_U):,} targets, {cold_U.sum():,} of them cold")
    print("| | all recall_10 / ndcg_10 | warm | cold | cold recall_10 (sd; 95 %) |")
    print("|---|---|---|---|---|")
    for name, found in places.items():
        gains_SMU = np.stack([gains(*place) for place in found])
        means = [gains_SMU[:, :, which].mean((0, 2)) for which in (slice(None), ~cold_U, cold_U)]
        spread = f"{gains_SMU[:, 0, cold_U].mean(1).std(ddof=1):.4f}; " if len(found) > 1 else ""
        low, high = interval(gains_SMU[:, 0, cold_U].mean(0), users)
        cells = [f"{recall:.4f} / {ndcg:.4f}" for recall, ndcg in means]
        print(f"| {name} | {' | '.join(cells)} | {spread}{low:.4f} to {high:.4f} |".replace("0.", "."), flush=True)


def n_seeds(dataset: str, row: str, seeds: int) -> int:
    """Seeds of a row."""
    return int(CHOSEN[dataset][row].get("seeds", seeds))


def gains(folder: Path, name: str) -> NDArray[np.float64]:
    """Recall and NDCG of every user, [2, U]."""
    ranks = pq.read_table(folder / "ranks" / f"{name}.parquet")
    place_U = ranks["greater"].to_numpy() + ranks["equal"].to_numpy() + 1
    hit_U = place_U <= CUTOFF
    return np.stack([hit_U.astype(np.float64), np.where(hit_U, 1 / np.log2(place_U + 1), 0.0)])


def interval(values_U: NDArray[np.float64], users: NDArray[np.int64]) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean over users."""
    means = np.array([values_U[drawn].mean() for drawn in users])
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
