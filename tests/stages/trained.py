"""A dataset and models on it, made by the stages themselves, small enough to be trained in a test."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.codes import write_codes
from modalrec.artifacts.files import write_json
from modalrec.config import Config, resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from tests.raw import histories, write_atomic, write_tables
from tests.stages.small import write_vectors

RECOMMENDER = {"name": "encoder_decoder", "width": 8, "layers": 1, "heads": 2, "history": 8, "beam_size": 20}
USERS, FILMS = 12, 8


def run_stage(name: str, settings: dict[str, Any], seed: int = 3, **edges: Path) -> dict[str, float]:
    function, config = load_stage(name)
    return function(**edges, config=resolve(config, settings), run=Run(name, seed=seed, quiet=True))


def ingest(folder: Path, items: str | None = None, **settings: Any) -> Path:
    """A dataset of twelve users and eight films; `items` is a CSV of other items f0 to f7."""
    rows = histories(USERS, FILMS)
    if items is None:
        write_atomic(folder / "raw", rows, FILMS)
    else:
        lines = [",".join(map(str, (user, film, time, rating))) for user, film, rating, time in rows]
        write_tables(folder / "raw", items, "\n".join(["user_id,item_id,timestamp,rating", *lines]) + "\n")
    chosen = {"min_user_events": 3, "min_item_events": 1, "splits": ["leave_one_out", "temporal"], **settings}
    run_stage("ingest", chosen, source=folder / "raw", dataset=folder / "dataset")
    return folder / "dataset"


def code(folder: Path, dataset: Path, seed: int = 0) -> Path:
    """Semantic IDs of two levels: every item its own pair, then position 0."""
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    rows = np.arange(len(ids))
    codes_NL = np.stack([rows // 3, rows % 3, 0 * rows], 1).astype(np.int32)
    sizes = [int(codes_NL[:, 0].max()) + 1, 3, 1]
    inputs = {"dataset": read_manifest(dataset, "dataset")}
    with write_artifact(folder / "codes", "codes", stage="quantize", config=Config(), seed=seed, inputs=inputs) as work:
        write_codes(work.folder, ids, codes_NL)
        write_json(work.folder / "quantizer.json", {"codebook_sizes": sizes})
        write_json(work.folder / "curves.json", [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.5}])
        work.statistics |= {"codebook_sizes": sizes, "relative_reconstruction_error": 0.25}
    return folder / "codes"


def embed(folder: Path, dataset: Path) -> Path:
    """Random vectors of the dataset's items; the first has none."""
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    return write_vectors(folder / "embeddings", ids, [row > 0 for row in range(len(ids))], 6)


def train(
    target: Path,
    dataset: Path,
    codes: Path,
    *,
    epochs: int = 1,
    pretrained: Path | None = None,
    embeddings: Path | None = None,
    **settings: Any,
) -> Path:
    """A finetuned model."""
    chosen = {"recommender": RECOMMENDER, "training": {"epochs": epochs, "batch_size": 8}, **settings}
    edges = {"dataset": dataset, "codes": codes, "pretrained": pretrained, "embeddings": embeddings, "model": target}
    run_stage("finetune", chosen, **{edge: folder for edge, folder in edges.items() if folder})
    return target


def train_all(folder: Path, items: str | None = None, **settings: Any) -> dict[str, Path]:
    """All inputs of `evaluate`, by edge."""
    dataset = ingest(folder, items, **settings)
    codes = code(folder, dataset)
    pretrained = folder / "pretrained"
    chosen = {"recommender": RECOMMENDER, "training": {"epochs": 1, "batch_size": 8}}
    run_stage("pretrain", chosen, dataset=dataset, codes=codes, pretrained=pretrained)
    return {
        "dataset": dataset,
        "codes": codes,
        "embeddings": embed(folder, dataset),
        "pretrained": pretrained,
        "model": train(folder / "model", dataset, codes, epochs=3, pretrained=pretrained),
        "scratch": train(folder / "scratch", dataset, codes),
        "shuffled": train(folder / "shuffled", dataset, codes, shuffle_histories=True),
        "temporal": train(folder / "temporal", dataset, codes, split="temporal"),
    }
