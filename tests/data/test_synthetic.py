import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from modalrec.cli.app import app
from modalrec.data.sources.microlens import MicroLens
from modalrec.data.synthetic import MARK, Shape, generate_microlens
from modalrec.errors import ArtifactError, ConfigError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest

SMALL = Shape(users=400, items=100, rows=1200, tags=80, text_dimension=4, image_dimension=3, item_dimension=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "made"
    generate_microlens(folder, SMALL, Run("generate", seed=3, quiet=True))
    return folder


def test_it_is_read_as_the_real_data_is(made, tmp_path):
    numbers = ingest(made, tmp_path / "dataset", config=Config(), run=Run("ingest", quiet=True))
    assert (numbers["items"], numbers["interactions"], numbers["dropped_unknown_item"]) == (100, 1200, 0)
    assert [numbers[f"given_{part}_rows"] for part in ("train", "valid", "test")] == [1046, 4, 150]
    assert (numbers["given_test_hidden"], numbers["history_unknown"]) == (150, 0)
    assert 0.25 < numbers["given_train_positives"] / 1046 < 0.42


def test_every_file_says_that_it_is_made_up(made, tmp_path):
    files = sorted(made.rglob("*.parquet"))
    assert len(files) == 7
    assert all(MARK in pq.read_schema(file).metadata for file in files)
    assert "made up" in (made / "SYNTHETIC.txt").read_text()
    source = MicroLens(MicroLens.Config(), made)
    assert all("Synthetic" in title for batch in source.items() for title in batch["title"].to_pylist())
    ingest(made, tmp_path / "dataset", config=Config(), run=Run("ingest", quiet=True))
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_text())
    assert manifest["statistics"]["source"]["synthetic"] == 1


def test_histories_are_as_long_as_allowed(tmp_path):
    shape = SMALL.model_copy(update={"history": 200.0, "longest": 30})
    generate_microlens(tmp_path / "made", shape, Run("generate", quiet=True))
    lengths = [len(seen) for seen in pq.read_table(tmp_path / "made" / "item_seq.parquet")["item_seq"].to_pylist()]
    assert max(lengths) == 30


def test_popularity_tells_labels(tmp_path):
    generate_microlens(tmp_path / "made", SMALL.model_copy(update={"items": 3000}), Run("generate", quiet=True))
    rows = pq.read_table(tmp_path / "made" / "MicroLens_1M_x1" / "train.parquet")
    likes, labels = rows["likes_level"].to_numpy(), rows["label"].to_numpy()
    assert likes[labels == 1].mean() > likes[labels == 0].mean() + 1


def test_the_seed_makes_the_data(made, tmp_path):
    for name, seed in (("again", 3), ("other", 4)):
        generate_microlens(tmp_path / name, SMALL, Run("generate", seed=seed, quiet=True))
    tables = [pq.read_table(folder / "MicroLens_1M_x1" / "train.parquet") for folder in
              (made, tmp_path / "again", tmp_path / "other")]  # fmt: skip
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_nothing_is_overwritten(made):
    with pytest.raises(ArtifactError, match="exists and is not empty"):
        generate_microlens(made, SMALL, Run("generate", quiet=True))


def test_the_command(tmp_path):
    arguments = ["generate", "microlens", "--out", str(tmp_path / "made"), "--users", "300", "--items", "70"]
    result = CliRunner().invoke(app, [*arguments, "--rows", "600", "--no-vectors", "--quiet"])
    assert result.exit_code == 0, result.output
    names = pq.read_schema(tmp_path / "made" / "item_feature.parquet").names
    assert names == ["item_id", "item_title", "item_tags", "likes_level", "views_level"]
    refused = CliRunner().invoke(app, [*arguments, "--rows", "10"])
    assert isinstance(refused.exception, ConfigError)


def test_vectors_of_a_kind_are_alike(made):
    vectors = np.stack(pq.read_table(made / "item_emb.parquet")["item_emb_d128"].to_numpy())
    assert vectors.shape == (100, 2)
    assert np.isfinite(vectors).all()
