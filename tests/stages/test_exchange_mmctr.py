"""`gpt_embedding.npy` and `item_feature_gpt.parquet` of github.com/Hsyy04/WWW25MMCTR go in and out as they are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modalrec.artifacts.embeddings import load
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.exchange import EmbeddingsConfig, export_embeddings, import_embeddings
from tests.stages.small import write_dataset, write_vectors

QUIET = Run("import", quiet=True)
ITEMS = [0, 3, 1, 2]
"""Rows of the source's table: 0 is its padding, and the order is not the dataset's."""


@pytest.fixture
def vectors_ND() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """As pandas writes it, with all that the source's table has."""
    tags = [[0], [1, 2], [3], []]
    rows = {"item_id": ITEMS, "item_title": ["", "c", "a", "b"], "item_tags": tags, "likes_level": [0, 3, 1, 2]}
    pd.DataFrame(rows).to_parquet(tmp_path / "item_feature.parquet")
    return tmp_path / "item_feature.parquet"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", ["a", "b", "c"])


def settings(**given: object) -> EmbeddingsConfig:
    return resolve(EmbeddingsConfig, {"extra": "drop", **given})


def named(features: Path, ids: list[str]) -> Path:
    """The table with the names of the small dataset, a0 to a2, for the source's 1 to 3."""
    table = pd.read_parquet(features)
    table["item_id"] = ids
    table.to_parquet(features)
    return features


IDS = ["pad", "a2", "a0", "a1"]


def test_rows_of_an_array_are_named_by_the_table(
    vectors_ND: np.ndarray, features: Path, dataset: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "gpt_embedding.npy", vectors_ND.astype(np.float64))
    ids = named(features, IDS)
    folder = tmp_path / "text"
    metrics = import_embeddings(tmp_path / "gpt_embedding.npy", dataset, folder, config=settings(), run=QUIET, ids=ids)
    assert metrics["rows_dropped"] == 1
    np.testing.assert_array_equal(load(folder).vectors_ND, vectors_ND[[2, 3, 1]])
    with pytest.raises(DataError, match="'pad'"):
        import_embeddings(
            tmp_path / "gpt_embedding.npy", dataset, tmp_path / "no", config=settings(extra="error"), run=QUIET, ids=ids
        )


def test_a_column_of_the_table(vectors_ND: np.ndarray, features: Path, dataset: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(named(features, IDS))
    table["txt_emb_GPT"] = vectors_ND.astype(np.float64).tolist()
    table.to_parquet(tmp_path / "item_feature_gpt.parquet")
    file = tmp_path / "item_feature_gpt.parquet"
    import_embeddings(file, dataset, tmp_path / "text", config=settings(column="txt_emb_GPT"), run=QUIET)
    np.testing.assert_array_equal(load(tmp_path / "text").vectors_ND, vectors_ND[[2, 3, 1]])
    with pytest.raises(DataError, match=r"no column embedding; it has item_id, .*txt_emb_GPT.*name another column"):
        import_embeddings(file, dataset, tmp_path / "no", config=settings(), run=QUIET)


def test_out_in_the_rows_of_the_table(vectors_ND: np.ndarray, features: Path, tmp_path: Path) -> None:
    ids = ["1", "2", "3"]
    folder = write_vectors(tmp_path / "text", ids, [True, True, False], 6)
    stored = load(folder).vectors_ND
    array, table = tmp_path / "gpt_embedding.npy", tmp_path / "item_feature_gpt.parquet"
    for file in (array, table):
        with pytest.raises(
            DataError, match=r"2 of its 4 items have no vector in .* \(first: '0'\); embed them, or give"
        ):
            export_embeddings(folder, file, like=features, column="txt_emb_GPT")
        export_embeddings(folder, file, like=features, column="txt_emb_GPT", missing="zero")
    expected = np.stack([0 * stored[0], 0 * stored[0], stored[0], stored[1]])
    np.testing.assert_array_equal(np.load(array), expected)
    written, before = pd.read_parquet(table), pd.read_parquet(features)
    np.testing.assert_array_equal(np.stack(written["txt_emb_GPT"].tolist()), expected)
    pd.testing.assert_frame_equal(written.drop(columns="txt_emb_GPT"), before)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "gpt_embedding.npy",
        "item_feature.parquet",
        "item_feature_gpt.parquet",
    ]


def test_what_cannot_be_written(features: Path, tmp_path: Path) -> None:
    folder = write_vectors(tmp_path / "text", ["0", "1", "2", "3"], [True] * 4, 6)
    with pytest.raises(DataError, match="has a column item_title already; give another --column"):
        export_embeddings(folder, tmp_path / "x.parquet", like=features, column="item_title")
    with pytest.raises(ConfigError, match="names its rows itself"):
        export_embeddings(folder, tmp_path / "x.npy", like=features, ids=tmp_path / "ids.json")
    with pytest.raises(ArtifactError, match="exists"):
        export_embeddings(folder, features, like=features)
    for damage, message in ((b"PAR1", "cannot be read"), (None, "cannot be read")):
        bad = tmp_path / "bad.parquet"
        bad.write_bytes(damage) if damage else bad.unlink()
        with pytest.raises(DataError, match=message):
            export_embeddings(folder, tmp_path / "x.npy", like=bad)
    pd.DataFrame({"item_id": [1.5]}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match="item_id is double with 0 empty cells"):
        export_embeddings(folder, tmp_path / "x.npy", like=tmp_path / "bad.parquet")
    assert not list(tmp_path.glob("*x.*"))
