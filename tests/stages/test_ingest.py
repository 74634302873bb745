from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.schemas import IMAGES, INTERACTIONS, ITEMS, USERS, read_table
from modalrec.config import resolve
from modalrec.data.images import load_images, open_image
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import picture, real_data, real_ml100k, write_amazon, write_atomic, write_tables, write_zip

ALL = {"min_user_events": 1, "min_item_events": 1}


def run(source: Path, dataset: Path, **settings) -> dict[str, float]:
    return ingest(source, dataset, config=resolve(Config, settings), run=Run("ingest", quiet=True))


def interactions(dataset: Path) -> list[dict]:
    return pq.read_table(dataset / "interactions.parquet").to_pylist()


def items(dataset: Path) -> list[dict]:
    return pq.read_table(dataset / "items.parquet").to_pylist()


def test_a_dataset_is_written_by_its_schemas(tmp_path):
    source = write_tables(tmp_path / "raw")
    write_zip(source / "images.zip", {"f0.jpg": picture(), "f3.png": picture(kind="PNG")})
    dataset = tmp_path / "dataset"
    numbers = run(source, dataset, **ALL)
    manifest = read_manifest(dataset, "dataset")
    for name, schema in (("items", ITEMS), ("users", USERS), ("interactions", INTERACTIONS)):
        read_table(dataset / f"{name}.parquet", schema)
    read_table(dataset / "images" / "part-00000.parquet", IMAGES)
    assert {name: numbers[name] for name in ("users", "items", "interactions", "texts")} == {
        "users": 8,
        "items": 6,
        "interactions": 40,
        "texts": 6,
    }
    assert [item["image"] for item in items(dataset)] == ["given", "none", "none", "given", "none", "none"]
    assert [batch.tolist() for batch, _ in load_images(dataset)] == [[0, 3]]
    assert manifest.config["source"]["name"] == "tables"
    assert manifest.config["splits"] == ["temporal", "leave_one_out"]
    assert set(manifest.statistics["source_files"]) == {"items.csv", "interactions.csv", "images.zip"}
    assert all(manifest.statistics[name] == value for name, value in numbers.items())


def test_rows_are_sorted_by_user_and_time_and_numbered(tmp_path):
    rows = [("b", "f1", 3, 20), ("a", "f0", 1, 5), ("b", "f2", 2, 10), ("b", "f0", 4, 20), ("a", "f1", 5, 5)]
    run(write_atomic(tmp_path / "raw", rows), tmp_path / "dataset", splits=["leave_one_out"], **ALL)
    listed = [tuple(row.values()) for row in interactions(tmp_path / "dataset")]
    assert listed == [
        (0, 2, 0, 10, 2.0, 0),
        (0, 1, 1, 20, 3.0, 1),
        (0, 0, 2, 20, 4.0, 2),
        (1, 0, 0, 5, 1.0, 0),
        (1, 1, 1, 5, 5.0, 0),
    ]
    assert pq.read_table(tmp_path / "dataset" / "users.parquet").to_pylist() == [{"user_id": "b"}, {"user_id": "a"}]


def test_every_drop_is_counted_with_its_reason(tmp_path):
    rows = [(f"u{user}", f"f{item}", 5, 100 * user + item) for user in range(3) for item in range(3)]
    rows += [("u0", "f0", 5, 0), ("u1", "f1", 2, 999), ("u2", "f0", 5, 900), ("u3", "f5", 5, 7), ("u0", "gone", 5, 8)]
    numbers = run(
        write_atomic(tmp_path / "raw", rows),
        tmp_path / "dataset",
        min_user_events=2,
        min_item_events=2,
        positive_rating=3,
        deduplicate="last",
        max_unknown_share=0.1,
        splits=["leave_one_out"],
    )
    steps = read_manifest(tmp_path / "dataset", "dataset").statistics["summary"]
    assert {step["step"]: step["interactions"] for step in steps} == {
        "unknown_item": 1,
        "exact_repeats": 1,
        "below_rating": 1,
        "repeated_items": 1,
        "core": 1,
    }
    assert steps[0]["examples"] == ["gone"]
    assert steps[-1]["rounds"] == [{"users": 1, "items": 1, "interactions": 1}]
    assert numbers["rows_read"] - numbers["interactions"] == sum(step["interactions"] for step in steps)
    # Of u2's two events with f0 the later one stays, so that f0 is its last item.
    assert [row["item"] for row in interactions(tmp_path / "dataset") if row["user"] == 2] == [1, 2, 0]
    assert numbers["items_without_events"] == 3


def test_items_without_events_leave_the_catalogue_or_stay(tmp_path):
    rows = [("u", f"f{film}", 1, film) for film in (4, 1, 3)]
    source = write_atomic(tmp_path / "raw", rows)
    run(source, tmp_path / "warm", splits=["leave_one_out"], **ALL)
    run(source, tmp_path / "all", splits=["leave_one_out"], keep_cold_items=True, **ALL)
    for dataset, ids in (("warm", ["f1", "f3", "f4"]), ("all", [f"f{film}" for film in range(6)])):
        names = [item["item_id"] for item in items(tmp_path / dataset)]
        assert names == ids
        assert [names[row["item"]] for row in interactions(tmp_path / dataset)] == ["f1", "f3", "f4"]


def test_drawn_cards_stand_in_and_are_flagged(tmp_path):
    source = write_tables(tmp_path / "raw")
    (source / "images").mkdir()
    (source / "images" / "f2.jpg").write_bytes(picture())
    (source / "images" / "f3.jpg").write_bytes(b"broken")
    numbers = run(source, tmp_path / "dataset", images={"missing": "draw", "max_bad_share": 0.5}, **ALL)
    assert [item["image"] for item in items(tmp_path / "dataset")] == [
        "drawn",
        "drawn",
        "given",
        "drawn",
        "drawn",
        "drawn",
    ]
    assert (numbers["images_given"], numbers["images_drawn"], numbers["images_bad"]) == (1, 5, 1)
    images = dict(pair for batch in load_images(tmp_path / "dataset") for pair in zip(*batch, strict=True))
    assert sorted(images) == list(range(6))
    assert open_image(images[0]).size == (160, 240)


def test_pictures_become_small(tmp_path):
    source = write_tables(tmp_path / "raw")
    write_zip(source / "images.zip", {"f2.png": picture((900, 300), kind="PNG")})
    run(source, tmp_path / "dataset", images={"max_side": 90}, **ALL)
    table = pq.read_table(tmp_path / "dataset" / "images")
    assert table.select(["item", "width", "height"]).to_pylist() == [{"item": 2, "width": 90, "height": 30}]


def test_the_same_input_gives_the_same_dataset(tmp_path):
    source = write_atomic(tmp_path / "raw")
    for name in ("one", "two"):
        run(source, tmp_path / name, images={"missing": "draw"}, **ALL)
    one, two = (read_manifest(tmp_path / name, "dataset") for name in ("one", "two"))
    assert one.digest == two.digest
    run(source, tmp_path / "three", images={"missing": "draw", "jpeg_quality": 60}, **ALL)
    assert read_manifest(tmp_path / "three", "dataset").digest != one.digest


def test_order_only_sources_have_leave_one_out_alone(tmp_path):
    source = write_amazon(tmp_path / "raw")
    run(source, tmp_path / "dataset")
    assert read_manifest(tmp_path / "dataset", "dataset").statistics["splits"] == ["leave_one_out"]
    assert {row["timestamp"] for row in interactions(tmp_path / "dataset")} == {None}
    with pytest.raises(ConfigError, match=r"temporal needs times.*Small\.inter\.json.*use splits"):
        run(source, tmp_path / "other", splits=["temporal"])
    with pytest.raises(ConfigError, match="has no ratings; leave it out"):
        run(source, tmp_path / "other", positive_rating=4)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_user_event": 3}, "did you mean min_user_events"),
        ({"source": {"name": "movielense"}}, "did you mean movielens"),
        ({"source": {"name": "tables", "item_column": {}}}, "did you mean item_columns"),
        ({"images": {"max_sides": 3}}, "did you mean max_side"),
        ({"valid_share": 0.6, "test_share": 0.5}, "leave nothing to train on"),
        ({"splits": []}, "splits"),
        ({"splits": ["temporal", "temporal"]}, "one is named twice"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        resolve(Config, settings)


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path):
    source = write_atomic(tmp_path / "raw")
    run(source, tmp_path / "dataset", **ALL)
    with pytest.raises(ArtifactError, match="exists and is not empty"):
        run(source, tmp_path / "dataset", **ALL)


def test_the_cut_in_time_holds_for_all_users(tmp_path):
    run(write_atomic(tmp_path / "raw"), tmp_path / "dataset", **ALL)
    rows = interactions(tmp_path / "dataset")
    times = {part: [row["timestamp"] for row in rows if row["split_temporal"] == part] for part in (0, 1, 2)}
    assert max(times[0]) < min(times[1]) <= max(times[1]) < min(times[2])
    numbers = read_manifest(tmp_path / "dataset", "dataset").statistics
    assert (numbers["temporal_valid_cut"], numbers["temporal_test_cut"]) == (min(times[1]), min(times[2]))


def test_real_amazon_scientific(tmp_path):
    numbers = run(real_data("amazon_scientific"), tmp_path / "dataset")
    assert (numbers["users"], numbers["items"], numbers["interactions"]) == (8317, 4344, 58_492)
    assert numbers["leave_one_out_test_targets"] == 8317
    lengths = np.bincount(pq.read_table(tmp_path / "dataset" / "interactions.parquet")["user"].to_numpy())
    assert (lengths.min(), lengths.max()) == (5, 78)


def test_real_ml_latest_small(tmp_path):
    numbers = run(real_data("movielens"), tmp_path / "dataset", **ALL)
    assert (numbers["users"], numbers["items"], numbers["interactions"]) == (610, 9724, 100_836)
    # 2,872 films have a poster; four of them nobody rated.
    assert (numbers["images_given"], numbers["images_bad"]) == (2868, 0)
    given = np.array([item["image"] == "given" for item in items(tmp_path / "dataset")])
    rated = pq.read_table(tmp_path / "dataset" / "interactions.parquet")["item"].to_numpy()
    assert given[rated].sum() == 58_449
    assert numbers["order_is_weak"] == 1


def test_real_ml100k(tmp_path):
    numbers = run(real_ml100k(), tmp_path / "dataset", **ALL)
    assert (numbers["users"], numbers["items"], numbers["interactions"]) == (943, 1682, 100_000)


def test_pictures_that_are_named_and_nowhere_stop_the_stage(tmp_path: Path) -> None:
    """A catalogue would lose all its pictures without a word."""
    items = "item_id,title,image\n" + "".join(f"f{n},Film {n},f{n}.jpg\n" for n in range(6))
    write_tables(tmp_path / "raw", items)
    with pytest.raises(DataError, match=r"'f0' names the picture 'f0.jpg', and there is no folder `images`"):
        run(tmp_path / "raw", tmp_path / "dataset", min_user_events=1, min_item_events=1)
    assert not (tmp_path / "dataset").exists()
