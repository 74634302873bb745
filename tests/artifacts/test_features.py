import json

import numpy as np
import pyarrow as pa
import pytest

from modalrec.artifacts.features import Feature, read_features, write_features
from modalrec.errors import ArtifactError

TABLE = pa.table(
    {
        "level": pa.array([1, 0], pa.int32()),
        "tags": pa.array([[2, 1], []], pa.list_(pa.int32())),
        "price": pa.array([2.5, float("nan")], pa.float32()),
    }
)
SAID = {
    "level": Feature(kind="category", size=2, popularity=True, values=("low",)),
    "tags": Feature(kind="bag", size=3),
    "price": Feature(kind="number"),
}


def test_features_come_back_as_they_were_written(tmp_path):
    write_features(tmp_path, {"item": (TABLE, SAID)})
    table, said = read_features(tmp_path, "item")
    assert said == SAID
    assert {field.name: field.type for field in table.schema} == {field.name: field.type for field in TABLE.schema}
    np.testing.assert_array_equal(table["price"].to_numpy(), TABLE["price"].to_numpy())
    assert table["tags"].to_pylist() == [[2, 1], []]
    assert read_features(tmp_path, "user") == (pa.table({}), {})
    assert json.loads((tmp_path / "features.json").read_text())["item"]["level"] == {
        "kind": "category",
        "size": 2,
        "popularity": True,
        "values": ["low"],
    }


def test_a_dataset_without_features_has_none(tmp_path):
    assert read_features(tmp_path, "item") == (pa.table({}), {})


@pytest.mark.parametrize("content", ["{", "[]", '{"item": 3}', '{"item": {"level": {"kind": "colour"}}}', "{}"])
def test_a_damaged_file_is_refused(tmp_path, content):
    write_features(tmp_path, {"item": (TABLE, SAID)})
    (tmp_path / "features.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"features\.json: cannot be read"):
        read_features(tmp_path, "item")


def test_a_table_of_other_types_is_refused(tmp_path):
    write_features(tmp_path, {"item": (TABLE, SAID | {"level": Feature(kind="bag", size=2)})})
    with pytest.raises(ArtifactError, match=r"item_features\.parquet: wrong columns: level"):
        read_features(tmp_path, "item")
