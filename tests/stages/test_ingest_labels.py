"""Labels, features, and the splits that look at no time."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.features import read_features
from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.run import Run
from modalrec.stages._ingest_features import encode
from modalrec.stages.ingest import Config, ingest
from tests.raw import real_data, real_ml100k, write_amazon, write_atomic

ALL = {"min_user_events": 1, "min_item_events": 1}


def run(source: Path, dataset: Path, *, seed: int = 0, **settings) -> dict[str, float]:
    config = resolve(Config, settings)
    return ingest(source, dataset, config=config, run=Run("ingest", quiet=True, seed=seed))


def interactions(dataset: Path) -> pa.Table:
    return pq.read_table(dataset / "interactions.parquet")


def test_labels_are_made_of_ratings(tmp_path):
    run(write_atomic(tmp_path / "raw"), tmp_path / "dataset", label={"at_least": 4}, **ALL)
    table = interactions(tmp_path / "dataset")
    assert table.schema.field("label").type == pa.int8()
    assert table["label"].to_pylist() == [int(rating >= 4) for rating in table["rating"].to_pylist()]
    assert len(set(table["label"].to_pylist())) == 2


def test_without_a_rule_there_is_no_label(tmp_path):
    run(write_atomic(tmp_path / "raw"), tmp_path / "dataset", **ALL)
    assert {"label", "history", "row_id"}.isdisjoint(interactions(tmp_path / "dataset").column_names)


def test_labels_need_ratings(tmp_path):
    with pytest.raises(ConfigError, match="has no ratings to make labels of; leave it out"):
        run(write_amazon(tmp_path / "raw"), tmp_path / "dataset", label={"at_least": 4})


def test_a_random_split_has_its_shares_and_follows_the_seed(tmp_path):
    source = write_atomic(tmp_path / "raw")
    settings = {"splits": ["random"], "valid_share": 0.1, "test_share": 0.2, "label": {"at_least": 4}, **ALL}
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        numbers = run(source, tmp_path / name, seed=seed, **settings)
    one, again, two = (interactions(tmp_path / name)["split_random"].to_numpy() for name in ("one", "again", "two"))
    assert np.bincount(one).tolist() == [28, 4, 8]
    assert (one == again).all()
    assert (one != two).any()
    labels = interactions(tmp_path / "two")["label"].to_numpy()
    assert [numbers[f"random_{part}_positives"] for part in ("train", "valid", "test")] == [
        labels[two == part].sum() for part in (0, 1, 2)
    ]


def test_a_random_split_of_too_few_rows_is_refused(tmp_path):
    source = write_atomic(tmp_path / "raw", [("a", "f1", 3, 1), ("a", "f2", 3, 2)])
    with pytest.raises(ConfigError, match="random split: no valid and no test row of 2"):
        run(source, tmp_path / "dataset", splits=["random"], **ALL)


def test_given_parts_must_be_given(tmp_path):
    with pytest.raises(ConfigError, match="does not come in parts; leave `given` out"):
        run(write_atomic(tmp_path / "raw"), tmp_path / "dataset", splits=["given"])


def test_features_follow_the_rows_of_items_and_users(tmp_path):
    source = write_atomic(tmp_path / "raw", [("b", "f4", 3, 1), ("b", "f1", 3, 2), ("a", "f1", 3, 2)])
    (source / "small.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "a\t24\tM\twriter\t1\nc\t60\tF\tartist\t2\n"
    )
    run(source, tmp_path / "dataset", splits=["leave_one_out"], **ALL)
    table, said = read_features(tmp_path / "dataset", "item")
    assert (said["genres"].values, said["year"].values) == (("Comedy", "Drama", "War"), ("1991", "1994"))
    assert said["genres"].size == 4
    assert table.to_pylist() == [{"genres": [1, 3], "year": 1}, {"genres": [2, 3], "year": 2}]
    table, said = read_features(tmp_path / "dataset", "user")
    # b is unknown: 0 throughout; c is nobody's row.
    assert table.to_pylist() == [{"age": 0, "gender": 0, "occupation": 0}, {"age": 1, "gender": 1, "occupation": 1}]
    assert {name: feature.values for name, feature in said.items()} == {
        "age": ("18",),
        "gender": ("M",),
        "occupation": ("writer",),
    }
    assert "features.json" in read_manifest(tmp_path / "dataset", "dataset").files


def test_categories_are_numbered_in_the_order_of_numbers():
    table = pa.table(
        {
            "level": pa.array(["10", "9", None]),
            "tags": pa.array([["b", None], None, ["a", "b"]], pa.list_(pa.string())),
            "price": pa.array([1.5, None, 2.0], pa.float32()),
        }
    )
    coded, said = encode(table, frozenset({"level"}))
    assert coded["level"].to_pylist() == [2, 1, 0]
    assert coded["tags"].to_pylist() == [[2], [], [1, 2]]
    np.testing.assert_array_equal(coded["price"].to_numpy(), np.array([1.5, np.nan, 2.0], np.float32))
    assert [feature.popularity for feature in said.values()] == [True, False, False]
    assert [feature.size for feature in said.values()] == [3, 3, 0]


def test_real_ml100k_has_labels_and_demographics(tmp_path):
    numbers = run(real_ml100k(), tmp_path / "dataset", label={"at_least": 4}, splits=["temporal", "random"], **ALL)
    labels = interactions(tmp_path / "dataset")["label"]
    assert pa.compute.sum(labels).as_py() == 55_375
    assert numbers["random_test_rows"] == 10_000
    table, said = read_features(tmp_path / "dataset", "user")
    assert {name: feature.size for name, feature in said.items()} == {"age": 8, "gender": 3, "occupation": 22}
    assert table.num_rows == 943
    assert pa.compute.min(table["occupation"]).as_py() == 1


def test_real_ml_latest_small_has_tags(tmp_path):
    run(real_data("movielens"), tmp_path / "dataset", label={"at_least": 4}, splits=["temporal"], **ALL)
    table, said = read_features(tmp_path / "dataset", "item")
    assert (said["genres"].size, said["tags"].size) == (20, 1473)
    assert table.num_rows == 9724
