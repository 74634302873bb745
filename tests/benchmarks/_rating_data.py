"""Ratings with posters and plots for measuring quality, kept in `out/cache/quality`; see `_quality_data`.

Vectors are those of MODALREC_DATA: MiniLM of plots, EfficientNet-Lite0 of posters, by film of MovieLens-1M.
"""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.runner.movielens import download
from tests.benchmarks._quality_data import CACHE, real_data, stage
from tests.raw import ROOT
from tests.stages.small import write_embeddings

VECTORS = {"text": "ml1m_text_minilm_l6_fp16.npz", "image": "ml1m_poster_effnet_lite0_fp16.npz"}
SHARES = {"folds": (0.1, 0.1), "temporal": (0.1, 0.1), "new_items": (0.1, 0.1)}
"""Of validation and test; of folds, a tenth of the four fifths that are not for test is for validation."""


def prepared_ratings(dataset: str, split: str, seed: int) -> dict[str, Path]:
    """`dataset`, `text_embeddings` and `image_embeddings`, made once; a seed is a fold, or draws the new items.

    Args:
        dataset: ml_100k or ml_latest_small; ml_100k_60 is the first 60 % of its ratings by time.
        split: folds, temporal or new_items.
        seed: From 0; all the same for temporal.
    """
    number = 0 if split == "temporal" else seed
    folder = CACHE / f"ratings_{dataset}_{split}_{number}"
    if not (folder / "ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        data = real_data()
        assert data is not None
        source, films = _latest_small(data) if dataset == "ml_latest_small" else _ml_100k(data)
        if percent := dataset.partition("ml_100k_")[2]:
            source = _earliest(source, int(percent), folder / "raw")
        valid_share, test_share = SHARES[split]
        settings: dict[str, Any] = {
            "splits": [split],
            "label": {"at_least": 4},
            "fold": number if split == "folds" else 0,
        }
        settings |= {"min_user_events": 1, "min_item_events": 1, "valid_share": valid_share, "test_share": test_share}
        settings |= {"source": {"name": "movielens", "tags": False}}
        # Folds of all numbers come from one draw; new items are drawn anew for each seed.
        drawn = 0 if split == "folds" else number
        stage("ingest", source, folder / "dataset", settings=settings, seed=drawn)
        ids = pq.read_table(folder / "dataset" / "items.parquet")["item_id"].to_pylist()
        for kind, file in VECTORS.items():
            _write_vectors(data / "derived" / file, folder / f"{kind}_embeddings", ids, films, kind)
        (folder / "ready").touch()
    edges = ("dataset", "text_embeddings", "image_embeddings")
    return {edge: folder / edge for edge in edges}


def _write_vectors(file: Path, folder: Path, ids: list[str], films: dict[str, int], kind: str) -> None:
    found = np.load(file)
    place = {int(film): row for row, film in enumerate(found["movie_id"])}
    rows_N = np.array([place.get(films.get(item, -1), -1) for item in ids])
    vectors_NV = found["emb"][np.maximum(rows_N, 0)].astype(np.float32)
    write_embeddings(folder, vectors_NV, rows_N >= 0, stage=f"embed_{kind}", item_ids=ids)


def _ml_100k(data: Path) -> tuple[Path, dict[str, int]]:
    """The files, and films of MovieLens-1M by id: those of the same title and year."""
    source = ROOT / "out" / "cache" / "ml-100k"
    download(source)
    known = {}
    for line in (data / "movielens" / "movies_ml1m.jsonl").read_text(encoding="utf-8").splitlines():
        film = json.loads(line)
        title, _, year = film["ml_title"].rpartition(" (")
        known[_plain(title), year.rstrip(")")] = int(film["movie_id"])
    films = {}
    with (source / "ml-100k.item").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            key = _plain(row["movie_title:token_seq"]), row["release_year:token"]
            if key in known:
                films[row["item_id:token"]] = known[key]
    return source, films


def _earliest(source: Path, percent: int, folder: Path) -> Path:
    """A copy of the files with the earliest ratings alone."""
    shutil.copytree(source, folder)
    head, *ratings = (source / "ml-100k.inter").read_text(encoding="utf-8").splitlines(keepends=True)
    ratings.sort(key=lambda line: float(line.split("\t")[3]))
    (folder / "ml-100k.inter").write_text("".join([head, *ratings[: len(ratings) * percent // 100]]), encoding="utf-8")
    return folder


def _latest_small(data: Path) -> tuple[Path, dict[str, int]]:
    source = data / "movielens" / "ml-latest-small"
    with (source / "poster_map.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["movieId"]: row["ml1m_id"] for row in csv.DictReader(file)}
    return source, {item: int(float(film)) for item, film in rows.items() if film}


def _plain(title: str) -> str:
    """A title without what people write differently: articles, brackets, marks."""
    title = re.sub(r"\(.*?\)", "", title.lower())
    words = re.findall(r"[a-z0-9]+", title)
    return " ".join(word for word in words if word not in ("the", "a", "an"))
