"""MovieLens as clicks: ratings of 4 and more, split by time and at random, with codes of texts and posters.

Made by the stages and kept in `out/cache/ctr_quality`. ml-100k is what `make demo` has fetched, with the plots and
posters of the films of MovieLens-1M that have its titles and years.
"""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from modalrec.config import load_preset
from modalrec.data.titles import article_first, split_year
from tests.benchmarks._quality_data import real_data, stage
from tests.raw import ROOT
from tests.stages.small import write_embeddings

CACHE = ROOT / "out" / "cache" / "ctr_quality"
ML_100K = ROOT / "out" / "cache" / "ml-100k"
PRESET = load_preset("ctr")
SPLITS = ("temporal", "random")


def prepared(name: str) -> Path:
    """The folder of a dataset of MAKERS with `dataset` and `codes`, made once."""
    folder = CACHE / name
    if not (folder / "ready").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        data = real_data()
        assert data is not None
        numbers = MAKERS[name](data / "movielens", folder)
        ids = pq.read_table(folder / "dataset" / "items.parquet")["item_id"].to_pylist()
        _posters(data, folder / "image_embeddings", ids, numbers)
        stage("embed_text", folder / "dataset", folder / "text_embeddings", settings={"encoder": {"name": "minilm"}})
        edges = {edge: folder / edge for edge in ("text_embeddings", "image_embeddings", "codes")}
        stage("quantize", settings=PRESET["quantize"], **edges)
        (folder / "ready").touch()
    return folder


def ml_100k(movielens: Path, folder: Path) -> dict[str, int]:
    """100,000 ratings of 943 users, whose age, gender and occupation are known."""
    if not ML_100K.is_dir():
        raise FileNotFoundError(f"{ML_100K}: fetched by `make demo`; run that once")
    raw = shutil.copytree(ML_100K, folder / "raw" / "ml-100k")
    lines = (movielens / "movies_ml1m.jsonl").read_text(encoding="utf-8").splitlines()
    films = {_key(*split_year(film["ml_title"])): film for film in map(json.loads, lines)}
    numbers, summaries = {}, []
    for row in _rows(raw / "ml-100k.item", "\t"):
        year = row["release_year:token"]
        film = films.get(_key(row["movie_title:token_seq"], int(year) if year.isdecimal() else None))
        if film:
            numbers[row["item_id:token"]] = film["movie_id"]
            summaries.append({"movieId": int(row["item_id:token"]), "summary": film["plot"]})
    (raw / "summaries.jsonl").write_text("\n".join(map(json.dumps, summaries)), encoding="utf-8")
    stage("ingest", raw, folder / "dataset", settings=PRESET["ingest"])
    return numbers


def ml_latest_small(movielens: Path, folder: Path) -> dict[str, int]:
    """100,836 ratings of 610 users, nothing known of them; plots of the films that MovieLens-1M has too."""
    raw = folder / "raw"
    raw.mkdir()
    source = movielens / "ml-latest-small"
    for path in [*source.glob("*.csv"), movielens / "movies_ml1m.jsonl"]:
        (raw / path.name).symlink_to(path)
    settings = {**PRESET["ingest"], "source": {"name": "movielens", "tags": False}}
    stage("ingest", raw, folder / "dataset", settings=settings)
    rows = _rows(source / "poster_map.csv", ",")
    return {row["movieId"]: int(float(row["ml1m_id"])) for row in rows if row["ml1m_id"]}


MAKERS: dict[str, Callable[[Path, Path], dict[str, int]]] = {"ml_100k": ml_100k, "ml_latest_small": ml_latest_small}


def _posters(data: Path, folder: Path, ids: list[str], numbers: dict[str, int]) -> None:
    """Vectors of the posters (EfficientNet-Lite0), found by the films' numbers in MovieLens-1M."""
    found = np.load(data / "derived" / "ml1m_poster_effnet_lite0_fp16.npz")
    place = {int(film): row for row, film in enumerate(found["movie_id"])}
    rows_N = np.array([place.get(numbers.get(item, -1), -1) for item in ids])
    write_embeddings(folder, found["emb"][np.maximum(rows_N, 0)].astype(np.float32), rows_N >= 0, item_ids=ids)


def _key(title: str, year: int | None) -> tuple[str, int | None]:
    return article_first(title).casefold(), year


def _rows(path: Path, delimiter: str) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else 0))
