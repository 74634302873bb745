"""Ingest of sessions: raw and prepared files, several test sets, sessions cut from users, and the real files."""

from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, UNUSED, VALID, in_full
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import real_data, write_amazon, write_atomic, write_sessions, write_tables

DAY = 86_400


def run(source: Path, dataset: Path, /, **settings) -> dict[str, float]:
    return ingest(source, dataset, config=resolve(Config, settings), run=Run("ingest", quiet=True))


def load(dataset: Path) -> pd.DataFrame:
    """The interactions with the names of users and items."""
    frame = pq.read_table(dataset / "interactions.parquet").to_pandas()
    # What every reader of a dataset relies on.
    assert frame.user.is_monotonic_increasing
    assert frame.position.tolist() == frame.groupby("user").cumcount().tolist()
    assert frame.groupby("user").timestamp.is_monotonic_increasing.all()
    for column, name in (("user", "users"), ("item", "items")):
        names = pq.read_table(dataset / f"{name}.parquet")[f"{column}_id"].to_pandas()
        frame[f"{column}_id"] = names.to_numpy()[frame[column]]
    return frame


def summary(dataset: Path) -> dict[str, int]:
    steps = read_manifest(dataset, "dataset").statistics["summary"]
    return {step["step"]: step["interactions"] for step in steps if step["interactions"]}


def test_raw_sessions_are_split_by_themselves(tmp_path):
    numbers = run(write_sessions(tmp_path / "raw"), tmp_path / "dataset")
    manifest = read_manifest(tmp_path / "dataset", "dataset")
    assert manifest.statistics["splits"] == ["sessions"]
    assert (manifest.config["min_user_events"], manifest.config["min_item_events"]) == (2, 5)
    assert manifest.config["exact_repeats"] == "keep"
    frame = load(tmp_path / "dataset")
    # Seconds in the dataset, sessions in the order of their starts, each its own user.
    assert frame.timestamp.head(3).tolist() == [1_400_000_000, 1_400_000_010, 1_400_000_021]
    assert frame.groupby("user").timestamp.min().is_monotonic_increasing
    # One session runs past the test cut, which drops its last click; one past that of validation.
    assert frame[frame.split_sessions != FULL_ONLY].groupby("user").split_sessions.nunique().max() == 1
    sequences = Sequences.load(tmp_path / "dataset", "sessions")
    assert len(sequences.targets(TEST, every=True)) == numbers["sessions_test_targets"]
    assert numbers["sessions_test_sessions"] == (frame[frame.split_sessions == TEST].user.nunique()) > 20
    assert numbers["interactions"] == 96 * 3 - numbers["dropped_past_cut"] == 287


def test_sessions_follow_their_starts_to_the_millisecond(tmp_path):
    rows = [("late", "a", 100.7), ("late", "b", 101), ("early", "a", 100.2), ("early", "b", 101)]
    rows += [("second", "a", 100.2), ("second", "b", 100.3)]
    rows += [(name, item, time) for name, time in (("v", DAY * 2.5), ("t", DAY * 4)) for item in "ab"]
    run(write_sessions(tmp_path / "raw", rows), tmp_path / "dataset", min_item_events=1)
    assert load(tmp_path / "dataset").user_id.drop_duplicates().tolist() == ["early", "second", "late", "v", "t"]


def test_prepared_files_are_left_as_they_are(tmp_path):
    """No filter, no deduplication: exact repeats and rare items stay; only what no model can rank leaves the tests."""
    train = [(1, "a", 5), (1, "a", 5), (1, "b", 6), (2, "c", DAY * 3), (2, "a", DAY * 3 + 1)]
    train += [(3, "b", DAY * 3), (3, "c", DAY * 3 + 1), (3, "a", DAY * 3 + 2)]
    folder = write_sessions(tmp_path / "raw", train, "my_train.txt")
    write_sessions(folder, [(1, "a", DAY * 4), (1, "z", DAY * 4 + 1), (1, "c", DAY * 4 + 2)], "my_test.txt")
    write_sessions(
        folder, [(2, "b", DAY * 9), (2, "c", DAY * 9), (7, "y", DAY * 9), (7, "c", DAY * 9)], "other-test.v2.txt"
    )
    source = {"name": "sessions", "train": "my_train.txt", "test": ["my_test.txt", "other-test.v2.txt"]}
    numbers = run(folder, tmp_path / "dataset", source=source, session_split={"by": "end"})
    assert summary(tmp_path / "dataset") == {"unseen_my_test": 1, "unseen_other_test": 1, "short_other_test": 1}
    frame = load(tmp_path / "dataset")
    listed = [tuple(row) for row in frame[["user_id", "item_id", "split_sessions", "split_sessions_other_test"]].values]
    assert listed == [
        ("train/1", "a", TRAIN, TRAIN),
        ("train/1", "a", TRAIN, TRAIN),
        ("train/1", "b", TRAIN, TRAIN),
        # Items that training proper lacks are not validated on; they stay in the catalogue and in full training.
        ("train/2", "c", FULL_ONLY, FULL_ONLY),
        ("train/2", "a", FULL_ONLY, FULL_ONLY),
        ("train/3", "b", VALID, VALID),
        ("train/3", "c", FULL_ONLY, FULL_ONLY),
        ("train/3", "a", VALID, VALID),
        ("my_test/1", "a", TEST, UNUSED),
        ("my_test/1", "c", TEST, UNUSED),
        ("other_test/2", "b", UNUSED, TEST),
        ("other_test/2", "c", UNUSED, TEST),
    ]
    statistics = read_manifest(tmp_path / "dataset", "dataset").statistics
    assert statistics["splits"] == ["sessions", "sessions_other_test"]
    assert set(statistics["source_files"]) == {"my_train.txt", "my_test.txt", "other-test.v2.txt"}
    assert numbers["sessions_other_test_test_events"] == 2


def test_a_given_validation_file_is_validation(tmp_path):
    folder = write_sessions(tmp_path / "raw", [(1, "a", 5), (1, "b", 6)], "x_train.txt")
    write_sessions(folder, [(1, "b", 7), (1, "new", 8)], "x_valid.txt")
    write_sessions(folder, [(1, "new", 9), (1, "a", 10)], "x_test.txt")
    run(folder, tmp_path / "dataset")
    frame = load(tmp_path / "dataset")
    assert frame.user_id.tolist() == ["train/1"] * 2 + ["valid/1"] * 2 + ["x_test/1"] * 2
    assert frame.split_sessions.tolist() == [TRAIN] * 2 + [VALID] * 2 + [TEST] * 2
    assert frame.item_id.tolist() == ["a", "b", "b", "new", "new", "a"]


def test_silence_cuts_the_users_of_every_source_into_sessions(tmp_path):
    rows = [("u", f"f{item}", 3, time) for item, time in enumerate((0, 1000, 1900, 5000))]
    rows += [("v", f"f{item}", 3, 10 * item) for item in range(6)]
    for name, folder in (
        ("atomic", write_atomic(tmp_path / "raw", rows)),
        ("tables", write_tables(tmp_path / "own")),
    ):
        run(folder, tmp_path / name, session_gap=1000, min_user_events=1, min_item_events=1, splits=["leave_one_out"])
    users = load(tmp_path / "atomic").user_id
    assert Counter(users) == {"u/0": 3, "u/1": 1, "v/0": 6}
    assert load(tmp_path / "tables").user_id.str.endswith("/0").all()


def test_a_dataset_of_ratings_can_be_split_by_sessions(tmp_path):
    numbers = run(
        write_atomic(tmp_path / "raw"),
        tmp_path / "dataset",
        splits=["sessions", "temporal"],
        min_user_events=2,
        min_item_events=1,
    )
    assert numbers["sessions_test_events"] > 0
    assert {"split_sessions", "split_temporal"} <= set(load(tmp_path / "dataset").columns)


def test_sessions_need_times(tmp_path):
    folder = write_amazon(tmp_path / "raw")
    with pytest.raises(ConfigError, match=r"splits: sessions needs times, .*use splits=\[leave_one_out\]"):
        run(folder, tmp_path / "dataset", splits=["sessions"])
    with pytest.raises(ConfigError, match=r"session_gap: .* has no times"):
        run(folder, tmp_path / "dataset", session_gap=60)


def test_published_counts_need_the_split(tmp_path):
    published = {"where": "nowhere", "counts": {"test_events": 3}}
    with pytest.raises(ConfigError, match="published: counts of the split sessions"):
        run(write_tables(tmp_path / "raw"), tmp_path / "dataset", published=published)
    with pytest.raises(ConfigError, match="test_eventz"):
        resolve(Config, {"published": {"where": "x", "counts": {"test_eventz": 3}}})


def test_consecutive_repeats_leave_and_others_stay(tmp_path):
    rows = [(1, item, time) for time, item in enumerate("aabbab")] + [(2, "a", 90), (3, "a", 91)]
    settings = {"min_user_events": 1, "min_item_events": 1, "splits": ["leave_one_out"], "deduplicate": "consecutive"}
    run(write_sessions(tmp_path / "raw", rows), tmp_path / "dataset", **settings)
    assert load(tmp_path / "dataset").item_id.tolist() == ["a", "b", "a", "b", "a", "a"]


def test_two_folders_in_one_are_not_guessed(tmp_path):
    folder = write_tables(write_sessions(tmp_path / "raw"))
    with pytest.raises(DataError, match=r"looks like sessions and tables; .* Set source\.name"):
        run(folder, tmp_path / "dataset")


def test_real_yoochoose_gives_the_authors_files(tmp_path):
    """From train_full and test alone: the same sessions, items and times as in train_tr, train_valid and test."""
    folder = real_data("sessions")
    numbers = run(folder, tmp_path / "dataset", session_split={"by": "end"})
    assert (numbers["users"], numbers["interactions"], numbers["items"]) == (21_210, 83_846, 2_933)
    frame = load(tmp_path / "dataset")
    given = {
        name: pd.read_csv(folder / f"yoochoose-clicks-100k_{name}.txt", sep="\t").sort_values(
            ["SessionId", "Time"], kind="stable"
        )
        for name in ("train_full", "train_tr", "train_valid", "test")
    }
    codes = frame.split_sessions.to_numpy()
    masks = {"train_tr": codes == TRAIN, "train_valid": codes == VALID, "test": codes == TEST}
    for name, mask in (masks | {"train_full": in_full(codes)}).items():
        ours = frame[mask].groupby("user_id")[["item_id", "timestamp"]].agg(list)
        ours.index = ours.index.str.partition("/").get_level_values(2).astype(int)
        theirs = given[name].assign(item_id=given[name].ItemId.astype(str), timestamp=given[name].Time.astype(int))
        theirs = theirs.groupby("SessionId")[["item_id", "timestamp"]].agg(list)
        assert ours.sort_index().to_dict() == theirs.to_dict(), name
    # train_tr and train_valid leave out 485 events of train_full: of items that train_tr lacks, or alone without those.
    assert (codes == FULL_ONLY).sum() == 70_278 - 53_254 - 16_539 == 485
    items = pq.read_table(tmp_path / "dataset" / "items.parquet")["item_id"].to_pylist()
    assert items == [
        str(item) for item in pd.read_csv(folder / "yoochoose-clicks-100k_train_full.txt", sep="\t").ItemId.unique()
    ]


def test_real_sample_of_retailrocket(tmp_path):
    columns = {"session": "session_id", "item": "item_id", "time": "timestamp"}
    source = {"name": "sessions", "events": "retailrocket_sample_10k.csv", "columns": columns}
    settings = {"source": source, "session_split": {"days": 7}, "min_item_events": 1}
    numbers = run(real_data("sessions"), tmp_path / "dataset", **settings)
    raw = pd.read_csv(real_data("sessions") / "retailrocket_sample_10k.csv", sep="\t")
    # One session has one event.
    raw = raw[raw.groupby("session_id").timestamp.transform("size") > 1]
    start = raw.groupby("session_id").timestamp.transform("min")
    parts = read_manifest(tmp_path / "dataset", "dataset").statistics["parts"]
    assert parts["all_events"] == len(raw) == 10_079
    assert parts["test_events"] == (start >= raw.timestamp.max() - 7 * DAY).sum()
    assert numbers["sessions_train_events"] > numbers["sessions_valid_events"] > 0
