"""Datasets, vectors and codes for measuring quality, made by the stages and kept in `out/cache/quality`.

Real data is read from MODALREC_DATA and never copied into the project; `out/` is not part of it.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from tests.raw import ROOT
from tests.stages.small import write_embeddings

CACHE = ROOT / "out" / "cache" / "quality"
CODES: dict[str, dict[str, Any]] = {
    "rqvae": {"name": "rqvae", "levels": 4, "codebook_size": 256},
    "rq_kmeans": {"name": "rq_kmeans", "levels": 4, "codebook_size": 256},
    "opq": {"name": "opq", "levels": 32, "codebook_size": 256},
}
NEW = "_new_items"
"""Ends the name of a dataset whose split holds a tenth of the items out of training."""
FIVE_CORE = {"min_user_events": 5, "min_item_events": 5, "core": "repeated"}


def real_data() -> Path | None:
    """The folder of real data, if it is there."""
    folder = Path(os.environ.get("MODALREC_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "amazon_scientific").is_dir() else None


def stage(name: str, *places: Path, settings: dict[str, Any] | None = None, seed: int = 0, **edges: Path) -> Any:
    """Runs a stage."""
    function, config = load_stage(name)
    run = Run(name, seed=seed, device="cpu", quiet=True)
    return function(*places, **edges, config=resolve(config, settings or {}), run=run)


def prepared(name: str) -> Path:
    """The folder of a dataset with `dataset` and `embeddings`, or some of other names; made once.

    Args:
        name: scientific, ml_latest_small or mm_subset, as they are or with `_new_items` behind.
    """
    folder = CACHE / name
    if not (folder / "ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        data = real_data()
        assert data is not None
        MAKERS[name.removesuffix(NEW)](data, folder, split_of(name))
        (folder / "ready").touch()
    return folder


def split_of(name: str) -> str:
    """The split that a dataset is trained and measured on."""
    return "cold_items" if name.endswith(NEW) else "leave_one_out"


def coded(name: str, codes: str, embeddings: str) -> Path:
    """Semantic IDs of a dataset's items, of a kind in CODES; a quantizer learns from items with a train event alone
    where others are new."""
    folder = prepared(name)
    place = folder / (f"codes_{codes}" if embeddings == "embeddings" else f"codes_{codes}_{embeddings}")
    if not (place / "manifest.json").is_file():
        chosen: dict[str, Any] = {"quantizer": CODES[codes], "last_level": "distinct"}
        edges = {"codes": place, "embeddings": folder / embeddings}
        if name.endswith(NEW):
            chosen |= {"learn_from": "train", "split": split_of(name)}
            edges["dataset"] = folder / "dataset"
        stage("quantize", settings=chosen, **edges)
    return place


def scientific(data: Path, folder: Path, split: str) -> None:
    """Amazon Scientific with MiniLM's vectors of title and description."""
    stage("ingest", data / "amazon_scientific", folder / "dataset", settings={"splits": [split]})
    _embed_texts(folder)


def ml_latest_small(data: Path, folder: Path, split: str) -> None:
    """Every rating of the five-core as an event; the text is title, genres and, for known films, people and plot."""
    source = data / "movielens" / "ml-latest-small"
    known = {film["movie_id"]: film for film in _lines(data / "movielens" / "movies_ml1m.jsonl")}
    ml1m = {row["movieId"]: row["ml1m_id"] for row in _rows(source / "poster_map.csv") if row["ml1m_id"]}
    items = []
    for row in _rows(source / "movies.csv"):
        film = known.get(int(float(ml1m.get(row["movieId"], -1))), {})
        parts = [row["genres"].replace("|", ", "), film.get("director"), film.get("actors"), film.get("plot")]
        text = ". ".join(str(part) for part in parts if part and part != "N/A")
        items.append([row["movieId"], row["title"], text])
    raw = folder / "raw"
    raw.mkdir()
    _write(raw / "items.csv", ["item_id", "title", "text"], items)
    events = [[row["userId"], row["movieId"], row["timestamp"], row["rating"]] for row in _rows(source / "ratings.csv")]
    _write(raw / "interactions.csv", ["user_id", "item_id", "timestamp", "rating"], events)
    stage("ingest", raw, folder / "dataset", settings={**FIVE_CORE, "splits": [split]})
    _embed_texts(folder)


def mm_subset(data: Path, folder: Path, split: str) -> None:
    """The part of Amazon Scientific that has pictures, with CLIP's vectors: text, image, and both side by side."""
    source = data / "amazon_scientific" / "mm_subset"
    names = [row["item_id:token"] for row in _rows(source / "Scientific.text", "\t")]
    index = [line.split("\t") for line in (source / "Scientific.item2index").read_text().splitlines()]
    place = {asin: int(row) for asin, row in index}
    raw = folder / "raw"
    raw.mkdir()
    texts = {row["item_id:token"]: row["text:token_seq"] for row in _rows(source / "Scientific.text", "\t")}
    metadata = {str(place[asin]): {"title": texts[asin][:80], "description": texts[asin]} for asin in names}
    histories = {
        row["user_id:token"]: [*row["item_id_list:token_seq"].split(), row["item_id:token"]]
        for row in _rows(source / "Scientific.test.inter", "\t")
    }
    (raw / "Subset.item.json").write_text(json.dumps(metadata))
    (raw / "Subset.inter.json").write_text(json.dumps(histories))
    stage("ingest", raw, folder / "dataset", settings={"min_user_events": 3, "min_item_events": 1, "splits": [split]})
    ids = pq.read_table(folder / "dataset" / "items.parquet")["item_id"].to_pylist()
    for kind, file in (("text", "feat1CLS"), ("image", "feat3CLS")):
        vectors = np.fromfile(source / f"Scientific.{file}", np.float32).reshape(-1, 512)
        write_embeddings(folder / f"{kind}_embeddings", vectors[[int(item) for item in ids]], item_ids=ids)
    edges = {edge: folder / edge for edge in ("text_embeddings", "image_embeddings")}
    stage("fuse", embeddings=folder / "embeddings", **edges)
    for kind in ("text", "image"):
        stage("fuse", embeddings=folder / f"{kind}_alone", **{f"{kind}_embeddings": edges[f"{kind}_embeddings"]})


MAKERS: dict[str, Callable[[Path, Path, str], None]] = {
    maker.__name__: maker for maker in (scientific, ml_latest_small, mm_subset)
}


def _embed_texts(folder: Path) -> None:
    stage("embed_text", folder / "dataset", folder / "texts", settings={"encoder": {"name": "minilm"}})
    stage("fuse", text_embeddings=folder / "texts", embeddings=folder / "embeddings")


def _rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, quoting=quoting))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
