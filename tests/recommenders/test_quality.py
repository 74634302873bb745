"""A floor under the quality on real data: Amazon Scientific with its titles' vectors, on the validation part.

There popularity has a recall_10 of .028 and item-KNN .1351; ten times the training adds what the README's table shows
(`python -m tests.benchmarks.quality`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.benchmarks._quality_data import mm_subset
from tests.raw import real_data
from tests.stages.small import write_embeddings
from tests.stages.trained import run_stage

TRAINING = {"epochs": 6, "batch_size": 64, "learning_rate": 0.003}


@pytest.fixture(scope="module")
def edges(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scientific")
    source = real_data("amazon_scientific")
    run_stage("ingest", {}, source=source, dataset=folder / "dataset")
    ids = pq.read_table(folder / "dataset" / "items.parquet")["item_id"].to_pylist()
    stored = np.load(source.parent / "derived" / "scientific_text_minilm_l6_fp16.npy").astype(np.float32)
    write_embeddings(folder / "embeddings", stored[[int(item) for item in ids]], item_ids=ids)
    settings = {"quantizer": {"name": "rq_kmeans", "levels": 4, "codebook_size": 256}, "last_level": "distinct"}
    run_stage("quantize", settings, embeddings=folder / "embeddings", codes=folder / "codes")
    return {edge: folder / edge for edge in ("dataset", "embeddings", "codes")}


def train(folder: Path, edges: dict[str, Path], **recommender: Any) -> dict[str, float]:
    chosen = {"recommender": {"dropout": 0.3, **recommender}, "training": TRAINING}
    return run_stage("finetune", chosen, **edges, model=folder / "model")


def test_sasrec_with_content_is_ahead_of_item_knn(edges: dict[str, Path], tmp_path: Path) -> None:
    metrics = train(tmp_path, edges, name="sasrec", content="sum")
    assert metrics["valid_recall_10"] > 0.136
    assert metrics["valid_ndcg_10"] > 0.088


def test_encoder_decoder_writes_codes_of_items_that_come_next(edges: dict[str, Path], tmp_path: Path) -> None:
    metrics = train(tmp_path, edges, name="encoder_decoder", content="sum", width=64)
    assert metrics["valid_recall_10"] > 0.095
    assert metrics["valid_ndcg_10"] > 0.06


def test_mp4sr_recommends_from_texts_and_pictures_before_it_knows_an_id(tmp_path: Path) -> None:
    """The part of Amazon Scientific that has pictures: after three epochs near sasrec with IDs (.159)."""
    mm_subset(real_data("amazon_scientific").parent, tmp_path, "leave_one_out")
    edges = {edge: tmp_path / edge for edge in ("dataset", "text_embeddings", "image_embeddings")}
    training = {"epochs": 3, "batch_size": 128, "learning_rate": 0.002}
    chosen = {"recommender": {"name": "mp4sr"}, "training": training, "validation_users": 1000}
    metrics = run_stage("pretrain", chosen, **edges, pretrained=tmp_path / "pretrained")
    assert metrics["valid_recall_10"] > 0.13
    assert metrics["valid_ndcg_10"] > 0.072
