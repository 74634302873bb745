import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modalrec.data import columns as columns_module
from modalrec.data import rows as rows_module
from modalrec.data.columns import shuffled
from modalrec.data.popularity import level
from modalrec.data.rows import HIDDEN, Rows, RowsConfig, load_rows
from modalrec.data.splits import TEST, TRAIN
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._row_space import RowSpace
from modalrec.training.rows import RowBatches
from tests.rows import write_rows

EVENT = st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 5), st.sampled_from([0, 1, None]))
"""User, item, time, label."""


def for_training(split: str, user: int, item: int, time: int) -> bool:
    return time < 4 if split == "temporal" else (user + item + time) % 2 == 0


def load(
    folder: Path, events: list[tuple[int, int, int, int | None]], split: str = "temporal", **config: object
) -> Rows:
    events = sorted(events, key=lambda event: (event[0], event[2]))
    users, items, times, labels = (list(column) for column in zip(*events, strict=True))
    parts = [TRAIN if for_training(split, *event[:3]) else TEST for event in events]
    columns = {"user": users, "item": items, "timestamp": times, "label": labels}
    dataset = write_rows(folder, columns, {split: parts}, n_items=4, n_users=5)
    return load_rows(dataset, split, RowsConfig(**config))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    events=st.lists(EVENT, min_size=1, max_size=40),
    batch=st.integers(1, 7),
    holds=st.sampled_from(["positive", "all", "labelled"]),
    split=st.sampled_from(["temporal", "random"]),
)
def test_a_history_is_what_the_user_did_strictly_earlier_wherever_the_batches_are_cut(
    events: list[tuple[int, int, int, int | None]],
    batch: int,
    holds: str,
    split: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_into_pieces_of(batch, monkeypatch)
    rows = load(tmp_path_factory.mktemp("rows") / "d", events, split, history=holds)
    said = list(zip(rows.users, rows.items, rows.timestamps, rows.labels, strict=True))
    for place, (user, item, time, _) in enumerate(said):
        earlier = [one for one in said if one[0] == user and one[2] < time and (one[3] == 1 or holds != "positive")]
        if split == "random":  # what came before may be for test
            earlier = [one for one in earlier if for_training(split, *one[:3])]
        span = slice(rows.begins[place], rows.ends[place])
        assert sorted(rows.past[span]) == sorted(one[1] for one in earlier)
        train = [one for one in said if one[1] == item and one[2] < time and for_training(split, *one[:3])]
        assert rows.values["event_views_level"][place] == level(np.array(len(train)))
        liked = sum(one[3] == 1 for one in train)
        assert rows.values["event_likes_level"][place] == level(np.array(liked))
        # Entries of a history carry the level of their own event, not of today.
        levels = {(one[1], one[2]): rows.values["event_views_level"][number] for number, one in enumerate(said)}
        seen = sorted(zip(rows.past[span], rows.past_values["event_views_level"][span], strict=True))
        assert seen == sorted((one[1], levels[one[1], one[2]]) for one in earlier)
        if holds == "labelled":
            told = sorted(zip(rows.past[span], rows.past_values["event_label"][span], strict=True))
            assert told == sorted((one[1], 1 + one[3]) for one in earlier)
    assert not rows.values.get("event_label", np.zeros(1)).any()


def test_levels_count_powers_of_two_up_to_ten() -> None:
    assert level(np.array([0, 1, 2, 3, 7, 1022, 1023, 10**6])).tolist() == [1, 2, 2, 3, 4, 10, 11, 11]


def test_given_histories_are_taken_as_they_are(tmp_path: Path) -> None:
    columns = {"user": [0, 0, 1], "item": [1, 2, 0], "label": [1, None, 0], "row_id": [None, 0, None]}
    columns["history"] = [[2, 0], [], [1, 1, 2]]
    rows = load_rows(write_rows(tmp_path / "d", columns, {"given": [0, 2, 1]}), "given", RowsConfig())
    assert [rows.past[a:b].tolist() for a, b in zip(rows.begins, rows.ends, strict=True)] == columns["history"]
    assert rows.labels.tolist() == [1, HIDDEN, 0]
    assert rows.of(TRAIN, "click").tolist() == [0]
    assert rows.hidden(TEST).tolist() == [1]
    assert rows.values == {}
    assert rows.trained_items().tolist() == [True, True, True]
    assert rows.trained_users().tolist() == [True, False]


def test_hidden_rows_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    columns = {"user": [0, 1, 2], "item": [0, 1, 2], "label": [None] * 3, "row_id": [2, 0, 1], "history": [[], [], []]}
    rows = load_rows(write_rows(tmp_path / "d", columns, {"given": [2, 2, 2]}), "given", RowsConfig())
    assert rows.hidden(TEST).tolist() == [1, 2, 0]


def test_validation_rows_are_for_training_where_the_final_model_is_made(tmp_path: Path) -> None:
    columns = {"user": [0, 0, 0, 0], "item": [0, 1, 2, 0], "label": [1, 1, 1, 1], "timestamp": [1, 2, 3, 4]}
    dataset = write_rows(tmp_path / "d", columns, {"random": [0, 1, 2, -1]})
    assert load_rows(dataset, "random", RowsConfig()).of(TRAIN, "click").tolist() == [0]
    final = load_rows(dataset, "random", RowsConfig(), with_valid=True)
    assert final.of(TRAIN, "click").tolist() == [0, 1]


def test_the_memory_of_reading_and_shuffling_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row takes some hundred bytes on disk; a column that is made in memory takes one a row at the least."""
    peaks, counts = [], (5_000, 45_000)
    cut_into_pieces_of(1000, monkeypatch)
    for count in counts:
        place = np.arange(count)
        columns = {"user": place * 500 // count, "item": place % 7, "label": place % 2, "timestamp": place}
        columns["rating"] = place % 5
        dataset = write_rows(tmp_path / str(count), columns, {"given": place % 3})
        use(dataset)  # compiled and imported, what is
        tracemalloc.start()
        use(dataset)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.25 * (counts[1] - counts[0])


def use(dataset: Path) -> None:
    rows = load_rows(dataset, "given", RowsConfig(history="labelled", moments=True))
    names = [str(number) for number in range(7)]
    RowSpace.of(ItemSpace(names, names), [], rows)
    batches = RowBatches(rows, rows.of(TRAIN, "click"), 512, 2, "click", 0)
    for step, indices in enumerate(batches.plan(0)):
        batches.build(0, step, indices)


def test_the_order_of_an_epoch_is_the_generators_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_into_pieces_of(7, monkeypatch)
    for count in (0, 1, 7, 50):
        order = shuffled(count, np.random.default_rng([3, 1]))
        assert order.tolist() == np.random.default_rng([3, 1]).permutation(count).tolist()


def cut_into_pieces_of(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (columns_module, rows_module):
        monkeypatch.setattr(module, "BLOCK", size)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    columns = {"user": [0], "item": [0], "rating": [3.0]}
    dataset = write_rows(tmp_path / "d", columns, {"temporal": [0]})
    with pytest.raises(DataError, match=r"rows have no label; run `ingest` again with label.at_least"):
        load_rows(dataset, "temporal", RowsConfig())
    with pytest.raises(ConfigError, match="split 'given': the dataset has only temporal"):
        load_rows(dataset, "given", RowsConfig())
    features = {"item": {"genre": ({"kind": "category", "size": 3}, [3])}, "user": {}}
    wrong = write_rows(tmp_path / "w", {**columns, "label": [1]}, {"temporal": [0]}, features)
    with pytest.raises(ArtifactError, match=r"item_features.parquet: genre: 3 to 3, but its size is 3\nrun `ingest`"):
        load_rows(wrong, "temporal", RowsConfig())
    with pytest.raises(DataError, match="no ratings"):
        load_rows(
            write_rows(tmp_path / "n", {"user": [0], "item": [0], "label": [1]}, {"t": [0]}), "t", RowsConfig()
        ).of(TRAIN, "rating")
