"""Vectors that come along with the data, as MicroLens' do in `item_feature.parquet`, in place of an encoder's."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embeddings import NAME, load
from modalrec.errors import DataError
from modalrec.stages._identity import vector_space
from modalrec.stages.join import join
from tests.stages.small import write_dataset
from tests.stages.test_join import RUN, embed

COLUMN = "img_emb_CLIPRN50"
IDS = ["pad", "a2", "a0", "a1"]
OF_ITEMS = [2, 3, 1]
"""Rows of the table that are of the dataset's items, in their order."""


@pytest.fixture
def vectors_ND() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", ["a", "b", "c"])


def table(path: Path, ids: list[str], vectors_ND: np.ndarray) -> dict[str, Any]:
    pd.DataFrame({"item_id": ids, COLUMN: vectors_ND.tolist()}).to_parquet(path)
    return {"file": str(path), "column": COLUMN}


@pytest.mark.parametrize("stage", ["embed_text", "embed_image"])
def test_they_are_placed_by_item_whole_and_in_parts(
    stage: str, dataset: Path, vectors_ND: np.ndarray, tmp_path: Path
) -> None:
    given = table(tmp_path / "item_feature.parquet", IDS, vectors_ND)
    folder = embed(dataset, tmp_path / "whole", stage, given=given)
    np.testing.assert_array_equal(load(folder).vectors_ND, vectors_ND[OF_ITEMS])
    manifest = read_manifest(folder, "embeddings")
    statistics = manifest.statistics
    assert vector_space(manifest) == "", "the encoder of the settings has not made them"
    assert (statistics["encoder"], statistics["present"], statistics["dimension"]) == ("given", 3, 6)
    assert len(statistics["source_files"]["item_feature.parquet"]["sha256"]) == 64
    parts = [embed(dataset, tmp_path / str(part), stage, given=given, part=part, parts=2) for part in (0, 1)]
    join(parts, tmp_path / "joined", run=RUN)
    assert pq.read_table(tmp_path / "joined" / NAME).equals(pq.read_table(folder / NAME))


def test_rows_of_an_array_follow_a_table(dataset: Path, vectors_ND: np.ndarray, tmp_path: Path) -> None:
    table(tmp_path / "item_feature.parquet", IDS, vectors_ND)
    np.save(tmp_path / "gpt_embedding.npy", vectors_ND)
    given = {"file": str(tmp_path / "gpt_embedding.npy"), "ids": str(tmp_path / "item_feature.parquet")}
    folder = embed(dataset, tmp_path / "text", given=given)
    np.testing.assert_array_equal(load(folder).vectors_ND, vectors_ND[OF_ITEMS])


def test_items_without_a_row_are_refused_or_missing(dataset: Path, vectors_ND: np.ndarray, tmp_path: Path) -> None:
    given = table(tmp_path / "v.parquet", ["a2", "a0", "x", "y"], vectors_ND)
    with pytest.raises(DataError, match="item 'a1' of the dataset: has no row"):
        embed(dataset, tmp_path / "no", given=given)
    assert not (tmp_path / "no").exists()
    folder = embed(dataset, tmp_path / "text", given={**given, "missing": "zero"})
    assert load(folder).present.tolist() == [True, False, True]
    vectors_ND[0, 0] = np.inf
    given = table(tmp_path / "v.parquet", ["a2", "a0", "a1", "y"], vectors_ND)
    with pytest.raises(DataError, match="item 'a2': has a vector that is not finite"):
        embed(dataset, tmp_path / "no", given=given)
