"""Both forms through the stages: trained with content, evaluated by beam search beside all scores."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modalrec.errors import ConfigError
from tests.recommenders.encoder_decoder_cases import FORMS
from tests.stages import trained
from tests.stages.small import write_embeddings

SETTINGS = {"list_length": 12, "cutoffs": [1, 10], "gallery_users": 2, "beam_sample": 5, "ties": "report"}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_with_content_is_trained_and_its_beams_agree_with_all_scores(form: str, tmp_path: Path) -> None:
    dataset = trained.ingest(tmp_path)
    codes = trained.code(tmp_path, dataset)
    ids = pq.read_table(dataset / "items.parquet")["item_id"].to_pylist()
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4)).astype(np.float32)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors, item_ids=ids)
    recommender = {"name": "encoder_decoder", **FORMS[form], "content": "sum", "beam_size": 20}
    settings = {"recommender": recommender, "training": {"epochs": 2, "batch_size": 8}}
    edges = {"dataset": dataset, "codes": codes}
    with pytest.raises(ConfigError, match="recommender encoder_decoder: needs embeddings; give --embeddings"):
        trained.run_stage("finetune", settings, **edges, model=tmp_path / "none")
    metrics = trained.run_stage("finetune", settings, **edges, embeddings=embeddings, model=tmp_path / "model")
    assert metrics["epochs"] == 2
    evaluated = trained.run_stage("evaluate", SETTINGS, **edges, model=tmp_path / "model", evaluation=tmp_path / "e")
    assert evaluated["beam_agreement_10"] == 1.0, "beams are wider than the catalogue"
