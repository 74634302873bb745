from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.features import read_features
from modalrec.config import resolve
from modalrec.data.sources.microlens import MicroLens
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import MICROLENS, MICROLENS_ROWS, microlens_rows, picture, write_microlens, write_zip


def open_source(folder: Path, **settings) -> MicroLens:
    return MicroLens(resolve(MicroLens.Config, settings), folder)


def read(folder: Path, **settings) -> list[dict]:
    return pa.Table.from_batches(open_source(folder, **settings).interactions()).to_pylist()


def run(source: Path, dataset: Path, **settings) -> dict[str, float]:
    return ingest(source, dataset, config=resolve(Config, settings), run=Run("ingest", quiet=True))


def replaced(part: str, **columns) -> pa.Table:
    """The table of a part with other columns, or without those that are None."""
    table = microlens_rows(MICROLENS_ROWS[part], part != "test")
    for name, values in columns.items():
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table if values is None else table.append_column(name, values)
    return table


def test_rows_come_part_by_part_without_padding(tmp_path):
    rows = read(write_microlens(tmp_path))
    assert [(row["user_id"], row["history"], row["item_id"], row["label"], row["role"]) for row in rows] == [
        ("5", ["1"], "3", 1, 0),
        ("4", ["2", "1"], "4", 0, 0),
        ("5", ["1"], "2", 0, 0),
        ("5", ["1", "3"], "4", 1, 1),
        ("4", ["2", "1", "3"], "1", None, 2),
        ("6", [], "3", None, 2),
    ]
    assert [row["row_id"] for row in rows] == [None] * 4 + [0, 1]


def test_the_rows_own_numbers_are_kept(tmp_path):
    folder = write_microlens(tmp_path, test=replaced("test", ID=pa.array([70, 30])))
    assert [row["row_id"] for row in read(folder)] == [None] * 4 + [70, 30]


def test_labels_of_test_rows_count_only_where_they_are_said_to_be_real(tmp_path):
    folder = write_microlens(tmp_path, test=replaced("test", label=pa.array([1, 0])))
    assert [row["label"] for row in read(folder)[-2:]] == [None, None]
    assert [row["label"] for row in read(folder, test_labels=True)[-2:]] == [1, 0]
    with pytest.raises(DataError, match=r"test\.parquet: no column 'label' \(0 and 1\)"):
        open_source(write_microlens(tmp_path / "hidden"), test_labels=True)


def test_videos_keep_the_files_order_and_their_pictures(tmp_path):
    folder = write_microlens(tmp_path)
    write_zip(folder / "item_images.zip", {"item_images/1.jpg": picture(), "item_images/4.png": picture(kind="PNG")})
    source = open_source(folder)
    rows = pa.Table.from_batches(source.items()).to_pylist()
    assert [(row["item_id"], row["title"], row["picture"]) for row in rows] == [
        ("3", "Cats", None),
        ("1", "Dogs", "item_images/1.jpg"),
        ("2", None, None),
        ("4", None, "item_images/4.png"),
    ]
    assert source.counts == {"items_with_picture": 2, "items_without_title": 2}


def test_a_dataset_has_labels_histories_and_features(tmp_path):
    numbers = run(write_microlens(tmp_path / "raw"), tmp_path / "dataset")
    rows = pq.read_table(tmp_path / "dataset" / "interactions.parquet")
    assert rows.schema.field("history").type == pa.list_(pa.int32())
    # Users 5, 4, 6; items 3, 1, 2, 4 are 0 to 3. Rows of a user: train, valid, test.
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (0, 0, 0, None, None, 1, [1], None, 0),
        (0, 2, 1, None, None, 0, [1], None, 0),
        (0, 3, 2, None, None, 1, [1, 0], None, 1),
        (1, 3, 0, None, None, 0, [2, 1], None, 0),
        (1, 1, 1, None, None, None, [2, 1, 0], 0, 2),
        (2, 0, 0, None, None, None, [], 1, 2),
    ]
    assert rows.column_names[5:] == ["label", "history", "row_id", "split_given"]
    assert pq.read_table(tmp_path / "dataset" / "users.parquet")["user_id"].to_pylist() == ["5", "4", "6"]
    table, said = read_features(tmp_path / "dataset", "item")
    assert table["tags"].to_pylist() == [[1], [2, 1], [], [3, 1, 2]]
    assert said["tags"].values == ("7", "9", "11")
    assert table["likes_level"].to_pylist() == [4, 3, 1, 2]
    assert {name: feature.popularity for name, feature in said.items()} == {
        "tags": False,
        "likes_level": True,
        "views_level": True,
    }
    assert (numbers["given_train_rows"], numbers["given_test_hidden"], numbers["given_test_unseen_items"]) == (3, 2, 1)
    manifest = read_manifest(tmp_path / "dataset", "dataset")
    assert manifest.statistics["source"]["rows_with_other_levels"] == 0
    assert set(manifest.statistics["source_files"]) == {
        "item_feature.parquet",
        *(f"MicroLens_1M_x1/{part}.parquet" for part in MICROLENS_ROWS),
    }


def test_levels_of_rows_are_compared_with_those_of_their_items(tmp_path):
    run(write_microlens(tmp_path / "raw", valid=replaced("valid", likes_level=pa.array([7]))), tmp_path / "dataset")
    assert read_manifest(tmp_path / "dataset", "dataset").statistics["source"]["rows_with_other_levels"] == 1


def test_the_test_part_may_be_missing_and_other_files_are_checked_too(tmp_path):
    folder = write_microlens(tmp_path, test=None, item_seq=pa.table({"user_id": [1], "item_seq": ["1,2"]}))
    with pytest.raises(DataError, match=r"item_seq\.parquet: item_seq is string, expected lists of whole numbers"):
        open_source(folder)
    (folder / "item_seq.parquet").unlink()
    source = open_source(folder)
    assert (source.parts, source.has_row_ids) == (("train", "valid"), False)


def test_what_is_wrong_with_the_columns_of_all_files_is_one_error(tmp_path):
    folder = write_microlens(
        tmp_path,
        train=replaced("train", item_seq=pa.array([["1"], ["2"], ["3"]]), label=None),
        valid=replaced("valid", user_id=pa.array([5.0])),
        item_feature=MICROLENS.drop_columns(["item_title"]),
        test=microlens_rows(MICROLENS_ROWS["test"], False).slice(0, 0),
    )
    with pytest.raises(DataError) as caught:
        open_source(folder)
    for part in (
        "train.parquet: \n  ",
        "no column 'label' (0 and 1)",
        "item_seq is list<element: string>, expected lists of whole numbers",
        "valid.parquet: user_id is double, expected whole numbers",
        "item_feature.parquet: no column 'item_title' (strings)",
        "test.parquet: has no rows",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": pa.array([1, None, 2])}, "row 2, user_id: is empty"),
        ({"item_id": pa.array([3, 4, -1])}, "row 3, item_id: is not from 0 to"),
        ({"item_id": pa.array([3, 2**40, 1])}, "row 2, item_id: is not from 0 to"),
        ({"label": pa.array([1, 2, 0])}, "row 2, label: is neither 0 nor 1"),
        ({"label": pa.array([1.0, 0.5, None])}, r"(?s)row 3, label: is empty.*row 2, label: is neither"),
        ({"item_seq": pa.array([[1], None, [2]])}, "row 2, item_seq: is empty"),
        ({"item_seq": pa.array([[1], [], [2, None]])}, "row 3, item_seq: has an entry that is empty"),
        ({"item_seq": pa.array([[1, -7], [-1], [2, 3]])}, r"(?s)row 1, item_seq: has an entry.*row 2, item_seq"),
        ({"item_seq": pa.array([[1], [2], [2**33]])}, "row 3, item_seq: has an entry"),
    ],
)
def test_bad_cells_are_named_by_row(tmp_path, columns, message):
    folder = write_microlens(tmp_path, train=replaced("train", **columns))
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    assert "train.parquet" in str(caught.value)


def test_unknown_items_of_rows_and_histories_are_counted_or_refused(tmp_path):
    rows = [(5, [1, 77], 3, 1), (5, [1], 88, 1)]
    folder = write_microlens(tmp_path / "raw", valid=microlens_rows(rows))
    with pytest.raises(DataError, match=r"1 of 7 rows name 1 items that are not in .*item_feature\.parquet"):
        run(folder, tmp_path / "dataset")
    with pytest.raises(DataError, match=r"1 of \d+ entries of histories name 1 items .*'77'"):
        run(write_microlens(tmp_path / "raw", valid=microlens_rows(rows[:1])), tmp_path / "dataset")
    numbers = run(folder, tmp_path / "dataset", max_unknown_share=0.5)
    assert (numbers["dropped_unknown_item"], numbers["history_unknown"]) == (0, 1)
    assert not list((tmp_path / "dataset").glob(".*"))


def test_a_video_that_stands_twice_is_refused(tmp_path):
    folder = write_microlens(tmp_path / "raw", item_feature=pa.concat_tables([MICROLENS, MICROLENS.slice(0, 1)]))
    with pytest.raises(DataError, match=r"row 5: item '3' stands already in row 1"):
        run(folder, tmp_path / "dataset")


def test_missing_and_doubled_files_are_one_error(tmp_path):
    folder = write_microlens(tmp_path, train=None)
    write_microlens(folder / "copy", item_feature=None, test=None)
    (folder / "copy" / "MicroLens_1M_x1" / "train.parquet").unlink()
    with pytest.raises(DataError, match=r"(?s)no train\.parquet.*valid\.parquet: is in .* and in .*copy"):
        open_source(folder)
    assert not MicroLens.detect(folder)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"id,label\n1,2\n"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path, content):
    folder = write_microlens(tmp_path)
    (folder / "MicroLens_1M_x1" / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: is no complete parquet file"):
        open_source(folder)


def test_histories_need_all_items(tmp_path):
    with pytest.raises(ConfigError, match="keep_cold_items: histories come with the rows"):
        run(write_microlens(tmp_path / "raw"), tmp_path / "dataset", keep_cold_items=False)


def test_it_has_labels_of_its_own(tmp_path):
    with pytest.raises(ConfigError, match="has labels of its own"):
        run(write_microlens(tmp_path / "raw"), tmp_path / "dataset", label={"at_least": 1})
