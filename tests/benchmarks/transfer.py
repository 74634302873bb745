"""Whether a model gains from other datasets: pretrained on several with one codebook, finetuned on one, leave-one-out.

The union's items are embedded by MiniLM and coded by one RQ-k-means. A model is pretrained on the union and finetuned
on each of its datasets, against the same model, with the same codes, trained on that dataset alone for as many epochs
as both together, and for as many as the finetuning. An epoch of the union has more steps. Settings are the same for all
and were not tuned for any. With three seeds it takes hours on a core; `--seeds 1` says what one says.
"""

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.embeddings import EmbeddingsWriter, load
from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from pipelines.runner.movielens import download
from tests.raw import ROOT

UNIONS = {"all": ("ml_100k", "ml_latest", "scientific"), "films": ("ml_100k", "ml_latest")}
CODEBOOK = {"quantizer": {"name": "rq_kmeans", "levels": 4, "codebook_size": 256}, "last_level": "distinct"}
SASREC = {"name": "sasrec", "dropout": 0.5}
FULL = {"batch_size": 128, "learning_rate": 0.0015}
MODELS: dict[str, dict[str, Any]] = {
    "sasrec_only": {"recommender": SASREC | {"content": "only"}, "training": FULL},
    "sasrec_sum": {"recommender": SASREC | {"content": "sum"}, "training": FULL},
    "causal": {
        "recommender": {"name": "encoder_decoder", "dropout": 0.3},
        "training": {"batch_size": 32, "learning_rate": 0.001},
    },
}
Sides = tuple[dict[str, float], dict[str, float], dict[str, float]]
"""Metrics of the finetuned model, of one trained alone as long in all, of one trained alone as long as finetuned."""
JUDGED = {"baselines": [], "bootstrap_samples": 100, "ties": "report"}


def main(argv: Sequence[str] = ()) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks transfer")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "cache" / "transfer")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=MODELS)
    parser.add_argument("--unions", nargs="*", default=list(UNIONS), choices=UNIONS)
    parser.add_argument("--targets", nargs="*", default=list(UNIONS["all"]), choices=UNIONS["all"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrain", type=int, default=10, metavar="EPOCHS")
    parser.add_argument("--finetune", type=int, default=10, metavar="EPOCHS")
    given = parser.parse_args(argv)
    data = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    if not (data / "amazon_scientific").is_dir():
        print("skipped: set MODALREC_DATA to the folder that holds amazon_scientific/ and movielens/")
        return
    torch.set_num_threads(1)
    prepare(data, given.cache)
    print(
        f"{given.pretrain} epochs on the union and {given.finetune} on one, against {given.pretrain + given.finetune}"
    )
    for model in given.models:
        for union in given.unions:
            targets = [target for target in UNIONS[union] if target in given.targets]
            compare(given.cache, model, union, targets, given.seeds, given.pretrain, given.finetune)


def compare(
    cache: Path, model: str, union: str, targets: Sequence[str], seeds: int, pretrain: int, finetune: int
) -> None:
    """Prints a line for each seed and target, then the means."""
    found: dict[str, list[Sides]] = {target: [] for target in targets}
    for seed in range(seeds):
        runs = cache / "runs" / f"{model}_{union}_{pretrain}_{finetune}_{seed}"
        begin = time.process_time()
        start = train("pretrain", runs / "pretrained", cache / union, model, pretrain, seed)
        spent = time.process_time() - begin
        print(f"{model} {union} seed {seed}: pretrained in {spent:.0f} CPU-seconds", flush=True)
        for target in targets:
            folder = cache / f"{union}_{target}"
            gone_on = train("finetune", runs / target, folder, model, finetune, seed, start)
            alone = train("finetune", runs / f"{target}_alone", folder, model, pretrain + finetune, seed)
            short = train("finetune", runs / f"{target}_short", folder, model, finetune, seed)
            sides = judge(folder, gone_on, seed), judge(folder, alone, seed), judge(folder, short, seed)
            found[target].append(sides)
            line(f"{model} {union} -> {target}, seed {seed}", [sides])
    for target in targets if seeds > 1 else ():
        line(f"{model} {union} -> {target}, mean of {seeds}", found[target])


def line(name: str, found: Sequence[Sides]) -> None:
    """The sides, and the difference of the first two."""
    cells = []
    for metric in ("recall_10", "ndcg_10"):
        ours, alone, short = (statistics.mean(sides[side][metric] for sides in found) for side in range(3))
        cells.append(f"{metric} {ours:.4f}, alone {alone:.4f} ({ours - alone:+.4f}), alone and shorter {short:.4f}")
    print(f"{name:<44} {'   '.join(cells)}", flush=True)


def prepare(data: Path, cache: Path) -> None:
    """Datasets, vectors and codes of every union and of its parts, made once."""
    raw = cache / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    films = Path(os.environ.get("MODALREC_ML100K", cache / "ml-100k"))
    download(films)
    for part, folder in (
        ("scientific", data / "amazon_scientific"),
        ("ml_latest", data / "movielens"),
        ("ml_100k", films),
    ):
        if not (raw / part).exists():
            (raw / part).symlink_to(folder.resolve())
    texts = cache / "text_embeddings"
    if not texts.exists():
        ingest(raw, cache / "dataset", UNIONS["all"])
        encoder = {"encoder": {"name": "minilm"}}
        stage("embed_text", encoder, dataset=cache / "dataset", text_embeddings=texts)
    for union, parts in UNIONS.items():
        edges(raw, texts, cache / union, parts, None)
        for part in parts:
            edges(raw, texts, cache / f"{union}_{part}", (part,), cache / union / "codes")


def edges(raw: Path, texts: Path, folder: Path, parts: Sequence[str], codebook: Path | None) -> None:
    """A dataset of some parts with vectors and codes."""
    if (folder / "codes").exists():
        return
    ingest(raw, folder / "dataset", parts)
    rows_of(texts, folder / "dataset", folder / "text_embeddings")
    stage("fuse", {}, text_embeddings=folder / "text_embeddings", embeddings=folder / "embeddings")
    given = {} if codebook is None else {"codebook": codebook}
    stage("quantize", CODEBOOK, embeddings=folder / "embeddings", codes=folder / "codes", **given)


def ingest(raw: Path, dataset: Path, parts: Sequence[str]) -> None:
    settings = {"source": {"name": "several", "only": list(parts)}, "splits": ["leave_one_out"]}
    stage("ingest", settings, source=raw, dataset=dataset)


def rows_of(texts: Path, dataset: Path, target: Path) -> None:
    """The vectors of a dataset's items out of those of the union: encoding them again gives the same, later."""
    made, inputs = read_manifest(texts, "embeddings"), {"dataset": read_manifest(dataset, "dataset")}
    _, config = load_stage("embed_text")
    settings, vectors = resolve(config, made.config), load(texts)
    places = {item: row for row, item in enumerate(vectors.item_ids)}
    items = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    rows = np.array([places[item] for item in items])
    with write_artifact(target, "embeddings", stage="embed_text", config=settings, seed=0, inputs=inputs) as work:
        with EmbeddingsWriter(work.folder, vectors.vectors_ND.shape[1]) as writer:
            writer.write(items, vectors.present[rows], vectors.vectors_ND[rows])
        work.statistics |= {"present": int(vectors.present[rows].sum())}


def train(name: str, target: Path, folder: Path, model: str, epochs: int, seed: int, start: Path | None = None) -> Path:
    """A model, unless it is there."""
    if not target.exists():
        training = MODELS[model]["training"] | {"epochs": epochs}
        settings = {**MODELS[model], "training": training, "validation_users": 1000}
        edge = "codes" if model == "causal" else "embeddings"
        given = {"dataset": folder / "dataset", edge: folder / edge} | ({"pretrained": start} if start else {})
        stage(name, settings, seed=seed, **given, **{"model" if name == "finetune" else "pretrained": target})
    return target


def judge(folder: Path, model: Path, seed: int) -> dict[str, float]:
    """Test metrics of a model."""
    evaluation = model.with_name(f"{model.name}_evaluation")
    edge = {"codes": folder / "codes"} if "codes" in read_manifest(model, "model").inputs else {}
    given = {"dataset": folder / "dataset", "model": model, **edge}
    if not evaluation.exists():
        stage("evaluate", JUDGED, seed=seed, **given, evaluation=evaluation)
    metrics: dict[str, float] = read_manifest(evaluation, "evaluation").statistics
    return {name: metrics[name] for name in ("recall_10", "ndcg_10")}


def stage(name: str, settings: dict[str, Any], seed: int = 0, **places: Path) -> Any:
    """Runs a stage."""
    function, config = load_stage(name)
    return function(**places, config=resolve(config, settings), run=Run(name, seed=seed, device="cpu", quiet=True))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
