"""One's own tables with labels, histories, parts and features: any data of click prediction."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.features import read_features
from modalrec.config import resolve
from modalrec.data.sources.tables import Tables
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import write_tables

ITEMS = "item_id,title,tags,level,price\na,Red kettle,x| y,3,9.5\nb,Blue mug,,10,\nc,Cup,y,,1\n"
ROWS = (
    "user_id,item_id,label,history,part,row_id\n"
    "u,a,1,,train,\nu,b,0,a,train,\nv,c,1,a| b|,valid,\nu,c,,a|b,test,70\nw,a,,c,test,71\n"
)
USERS = "user_id,age,city\nv,40,Rome\nu,17,Oslo\nx,9,Bern\n"
FEATURES = {"tags": "bag", "level": "category", "price": "number"}


def write(folder: Path, rows: str = ROWS, items: str = ITEMS, users: str = USERS) -> Path:
    write_tables(folder, items, rows)
    (folder / "users.csv").write_text(users)
    return folder


def as_parquet(folder: Path) -> Path:
    """The same tables, histories and tags as lists."""
    for name in ("items", "interactions", "users"):
        kinds = {"level": "Int64"} if name == "items" else None
        frame = pd.read_csv(folder / f"{name}.csv", dtype=kinds)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        for column in ("history", "tags"):
            if column in table.column_names:
                lists = [[part.strip() for part in str(cell).split("|") if part.strip()] if cell == cell else []
                         for cell in frame[column]]  # fmt: skip
                table = table.set_column(table.column_names.index(column), column, pa.array(lists))
        pq.write_table(table, folder / f"{name}.parquet")
        (folder / f"{name}.csv").unlink()
    return folder


def read(folder: Path, **settings) -> list[dict]:
    source = Tables(resolve(Tables.Config, settings), folder)
    return [row for batch in source.interactions() for row in batch.to_pylist()]


def run(folder: Path, dataset: Path, **settings) -> dict[str, float]:
    given = {"name": "tables", "item_features": FEATURES, "user_features": {"age": "number", "city": "category"}}
    config = resolve(Config, {"source": given | settings})
    return ingest(folder, dataset, config=config, run=Run("ingest", quiet=True))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_with_labels_histories_parts_and_numbers(tmp_path, form):
    folder = write(tmp_path)
    rows = read(as_parquet(folder) if form == "parquet" else folder)
    assert [(row["item_id"], row["label"], row["history"], row["role"], row["row_id"]) for row in rows] == [
        ("a", 1, [], 0, None),
        ("b", 0, ["a"], 0, None),
        ("c", 1, ["a", "b"], 1, None),
        ("c", None, ["a", "b"], 2, 70),
        ("a", None, ["c"], 2, 71),
    ]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_dataset_of_them(tmp_path, form):
    folder = write(tmp_path / "raw")
    run(as_parquet(folder) if form == "parquet" else folder, tmp_path / "dataset", popularity=["level"])
    rows = pq.read_table(tmp_path / "dataset" / "interactions.parquet").to_pylist()
    kept = ("user", "item", "position", "label", "history", "row_id", "split_given")
    assert [tuple(row[name] for name in kept) for row in rows] == [
        (0, 0, 0, 1, [], None, 0),
        (0, 1, 1, 0, [0], None, 0),
        (0, 2, 2, None, [0, 1], 70, 2),
        (1, 2, 0, 1, [0, 1], None, 1),
        (2, 0, 0, None, [2], 71, 2),
    ]
    table, said = read_features(tmp_path / "dataset", "item")
    assert table["tags"].to_pylist() == [[1, 2], [], [2]]
    assert table["level"].to_pylist() == [1, 2, 0]
    assert [str(price) for price in table["price"].to_pylist()] == ["9.5", "nan", "1.0"]
    assert (said["level"].popularity, said["tags"].popularity, said["tags"].values) == (True, False, ("x", "y"))
    table, said = read_features(tmp_path / "dataset", "user")
    assert [str(age) for age in table["age"].to_pylist()] == ["17.0", "40.0", "nan"]
    assert (table["city"].to_pylist(), said["city"].values) == ([1, 2, 0], ("Oslo", "Rome"))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("user_id,item_id,label\nu,a,2\nu,b,1\nu,c,0.5\n", r"(?s)row 1, label: is neither 0 nor 1.*row 3, label"),
        ("user_id,item_id,label\nu,a,yes\n", "line 2, label: 'yes' is not a number"),
        ("user_id,item_id,part\nu,a,train\nu,b,dev\n", "row 2, part: is none of train, valid, test"),
        ("user_id,item_id,part\nu,a,train\nu,b,\n", "line 3, part: is empty"),
        ("user_id,item_id,row_id\nu,a,1.5\n", "line 2, row_id: '1.5' is not a whole number"),
    ],
)
def test_bad_cells_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        read(write(tmp_path, rows))


def test_columns_may_have_other_names(tmp_path):
    folder = write(tmp_path, ROWS.replace("label", "clicked").replace("history", "seen"))
    rows = read(folder, event_columns={"label": "clicked", "history": "seen"})
    assert [row["label"] for row in rows] == [1, 0, 1, None, None]
    with pytest.raises(DataError, match="no column 'clack' for label"):
        read(folder, event_columns={"label": "clack"})


def test_features_that_are_not_there_are_refused(tmp_path):
    folder = write(tmp_path / "raw")
    with pytest.raises(DataError, match=r"items\.csv: no column 'colour'; it has item_id, title"):
        run(folder, tmp_path / "dataset", item_features={"colour": "category"})
    with pytest.raises(ConfigError, match="popularity: level is not among item_features"):
        resolve(Tables.Config, {"popularity": ["level"]})
    other = write(tmp_path / "other", items="item_id,level\na,x\nb,1\nc,2\n")
    with pytest.raises(DataError, match="line 2, level: 'x' is not a number"):
        run(other, tmp_path / "dataset", item_features={"level": "number"})


def test_features_of_one_user_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match="features of 'u' stand twice"):
        run(write(tmp_path / "raw", users="user_id,age,city\nu,1,Bern\nu,2,Bern\n"), tmp_path / "dataset")
