"""Test parts: what is dropped from them, and further test sets beside them."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modalrec.artifacts.schemas import INTERACTIONS, ITEMS
from modalrec.errors import ConfigError
from modalrec.run import Run
from modalrec.stages.parts import Part, Rules, load_part, load_test_sets

N_ITEMS = 8
RUN = Run("evaluate", quiet=True)
SESSIONS = [[0, 1, 2], [3, 1], [4, 0, 1], [0, 5, 1, 2], [6, 0], [0, 5], [1, 0]]
PARTS = [0, 0, 1, 2, 2, 2, 2]


def write(folder: Path, **splits: list[int]) -> Path:
    """The sessions, and one part per session under every split."""
    rows = [(user, item, at) for user, items in enumerate(SESSIONS) for at, item in enumerate(items)]
    events = pd.DataFrame(rows, columns=["user", "item", "position"]).assign(timestamp=None, rating=None)
    columns = {f"split_{name}": events["user"].map(dict(enumerate(parts))) for name, parts in splits.items()}
    schema = pa.schema([*INTERACTIONS, *(pa.field(name, pa.int8()) for name in columns)])
    folder.mkdir()
    table = pa.Table.from_pandas(events.assign(**columns), schema=schema, preserve_index=False)
    pq.write_table(table, folder / "interactions.parquet")
    items = [{"item_id": f"i{item}", "image": "none"} for item in range(N_ITEMS)]
    pq.write_table(pa.Table.from_pylist(items, schema=ITEMS), folder / "items.parquet")
    return folder


def rules(every: bool = True, drop: bool = True, with_valid: bool = False) -> Rules:
    return Rules(every, drop, with_valid)


def histories(part: Part) -> list[tuple[int, list[int], int]]:
    found = part.sequences.histories(part.targets)
    rows = zip(part.targets.users.tolist(), found, part.targets.items.tolist(), strict=True)
    return [(user, history.tolist(), item) for user, history, item in rows]


def test_events_of_unseen_items_are_dropped_and_counted(tmp_path: Path) -> None:
    part = load_part(write(tmp_path / "d", sessions=PARTS), "sessions", rules(), RUN)
    # Items 4 to 7 have no train event; sessions 4 and 5 are left with one event, and none to predict.
    assert histories(part) == [(3, [0], 1), (3, [0, 1], 2), (6, [1], 0)]
    assert part.dropped is not None
    assert (part.dropped.events, part.dropped.users) == (3, 2)
    assert part.candidates is not None
    assert part.candidates.tolist() == [True] * 4 + [False] * 4


def test_validation_events_of_a_final_model_are_seen(tmp_path: Path) -> None:
    dataset = write(tmp_path / "d", sessions=PARTS)
    part = load_part(dataset, "sessions", rules(with_valid=True), RUN)
    assert part.candidates is not None
    assert part.candidates.tolist() == [True] * 5 + [False] * 3
    assert len(part.sequences.train().items) == 8


def test_unseen_items_can_stay(tmp_path: Path) -> None:
    part = load_part(write(tmp_path / "d", sessions=PARTS), "sessions", rules(drop=False), RUN)
    assert part.dropped is None
    assert part.candidates is None
    assert (5, [0], 5) in histories(part)
    last = load_part(tmp_path / "d", "sessions", rules(every=False, drop=False), RUN)
    assert [user for user, _, _ in histories(last)] == [3, 4, 5, 6]


def test_what_was_dropped_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_part(write(tmp_path / "d", sessions=PARTS), "sessions", rules(), Run("evaluate"))
    assert "dropped 3 test events" in (said := capsys.readouterr().err)
    assert "2 sessions lost all their targets, 2 are left with 3" in said


def test_further_test_sets_share_the_training(tmp_path: Path) -> None:
    day2, other = [0, 0, 1, -1, -1, 2, 2], [0, 1, 1, -1, -1, 2, 2]
    headline = [0, 0, 1, 2, 2, -1, -1]
    dataset = write(tmp_path / "d", sessions=headline, sessions_day2=day2, sessions_bad=other)
    first = load_part(dataset, "sessions", rules(), RUN)
    assert histories(first) == [(3, [0], 1), (3, [0, 1], 2)]
    (second,) = load_test_sets(dataset, ["sessions_day2"], rules(), RUN, first)
    assert (second.name, histories(second)) == ("day2", [(6, [1], 0)])
    assert second.dropped is not None
    assert (second.dropped.events, second.dropped.users) == (1, 1)
    with pytest.raises(ConfigError, match="'sessions_bad' has other train or validation events than 'sessions'"):
        load_test_sets(dataset, ["all"], rules(), RUN, first)
    with pytest.raises(ConfigError, match="'temporal': the dataset has sessions_day2, sessions_bad beside sessions"):
        load_test_sets(dataset, ["temporal"], rules(), RUN, first)
