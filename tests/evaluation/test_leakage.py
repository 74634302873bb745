"""What training knows of a test part is found whoever has split the data, whatever the size of the blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modalrec.artifacts import Manifest, read_manifest
from modalrec.evaluation import leakage
from modalrec.evaluation.leakage import measure_leakage
from modalrec.evaluation.report.leakage import Check, leakage_checks, leaks
from tests.rows import write_rows

FAIR = {
    "user": [0, 0, 0, 1, 1, 2, 2, 2],
    "item": [0, 1, 2, 0, 3, 1, 0, 3],
    "timestamp": [10, 20, 90, 11, 91, 5, 30, 95],
}
SPLIT = [0, 0, 2, 0, 2, 0, 1, 2]
TIMES, HISTORIES, TWICE, MET, KNOWN = range(5)


def changed(at: int, **values: int) -> dict[str, Any]:
    """The fair rows with one event changed."""
    return FAIR | {name: [*FAIR[name][:at], value, *FAIR[name][at + 1 :]] for name, value in values.items()}


def checks(folder: Path, rows: dict[str, Any], split: Sequence[int] = SPLIT, **more: Any) -> list[Check]:
    dataset = write_rows(folder / "dataset", rows, {"temporal": np.array(split, np.int8)}, **more)
    manifest = read_manifest(dataset, "dataset")
    return leakage_checks(measure_leakage(dataset, "temporal"), manifest, {"dataset": manifest})


def test_a_fair_split_is_fine(tmp_path: Path) -> None:
    found = checks(tmp_path, FAIR)
    assert [one.state for one in found] == ["fine", "fine", "fine", "fine", "known", "fine"]
    assert found[TIMES].found.endswith("first test event of 1970-01-01 00:01 UTC")
    assert found[KNOWN].found == ("0 of 3 users have no train event; the item of 3 of 3 (100.0 %) test events has none")
    assert leaks(found) == []


@pytest.mark.parametrize(
    ("rows", "split", "failed", "said"),
    [
        (changed(4, timestamp=20), SPLIT, {TIMES}, "1 of 3 (33.3 %) test events are not later: the last train event"),
        (changed(6, timestamp=99), SPLIT, {HISTORIES}, "1 of 3 (33.3 %) test events come after a later one"),
        (
            changed(1, item=2, timestamp=90),
            [0, 0, 2, 2, 2, 0, 1, 2],
            {TIMES, TWICE},
            "1 of 4 (25.0 %) have user, item and time of a train event",
        ),
    ],
)
def test_a_leak_is_found_and_a_warning(
    rows: dict[str, Any], split: list[int], failed: set[int], said: str, tmp_path: Path
) -> None:
    found = checks(tmp_path, rows, split)
    assert {place for place, one in enumerate(found) if one.state == "leak"} == failed
    warned = leaks(found)
    assert len(warned) == len(failed)
    assert said in " ".join(warned)


def test_what_time_alone_can_tell_is_not_claimed_without(tmp_path: Path) -> None:
    found = checks(tmp_path, FAIR | {"timestamp": [10, 20, 90, None, 91, 5, 30, 95]})
    assert [found[place].state for place in (TIMES, HISTORIES, TWICE)] == ["known"] * 3


def test_items_that_people_come_back_to_are_counted(tmp_path: Path) -> None:
    found = checks(tmp_path, changed(2, item=0))
    assert found[MET].found == "test event: 1 of 3 (33.3 %); people come back to items"
    assert found[MET].state == "known"


@pytest.mark.parametrize(("histories", "state"), [([[2], [0], [3]], "leak"), ([[1], [0], [0]], "fine")])
def test_a_given_history_that_tells_the_label_is_a_leak(histories: list[list[int]], state: str, tmp_path: Path) -> None:
    """Positive targets are in their own history, negative ones are not."""
    given = iter(histories)
    rows = FAIR | {
        "label": [1, 0, 1, 1, 0, 1, 1, 1],
        "history": [next(given) if part == 2 else [] for part in SPLIT],
    }
    found = checks(tmp_path, rows)
    assert found[MET].state == state
    assert found[HISTORIES].state == "known", "their times are not known"


def test_popularity_that_came_with_the_data_is_said(tmp_path: Path) -> None:
    rows = FAIR | {"label": [1, 0, 1, 1, 0, 1, 1, 1]}
    said = ({"kind": "category", "size": 4, "popularity": True}, [1, 2, 3, 1])
    assert checks(tmp_path, rows)[KNOWN + 1].found == "in train rows strictly before each row"
    found = checks(tmp_path / "told", rows, features={"item": {"views": said}, "user": {}})[KNOWN + 1]
    assert (found.state, found.found.partition(" ")[0]) == ("known", "views")


@pytest.mark.parametrize("split", ["leave_one_out", "temporal"])
def test_what_learnt_from_another_split_is_a_leak(split: str, tmp_path: Path) -> None:
    """Also where it is an ancestor, such as codes that were aligned with clicks."""
    dataset = write_rows(tmp_path / "d", FAIR, {"temporal": np.array(SPLIT, np.int8)})
    manifest = read_manifest(dataset, "dataset")
    config: dict[str, Any] = {"split": split, "monitor": "ndcg_10"}
    codes = manifest.model_copy(
        update={"stage": "quantize", "config": config, "inputs": {"dataset": manifest.digest}, "digest": "codes"}
    )
    model = Manifest.model_construct(
        **vars(manifest)
        | {"stage": "finetune", "config": config | {"split": "temporal"}, "digest": "model"}
        | {"inputs": {"dataset": manifest.digest, "codes": "codes"}, "lineage": {"codes": codes.ancestor()}}
    )
    given = {"dataset": manifest, "model": model}
    last = leakage_checks(measure_leakage(dataset, "temporal"), manifest, given)[-1]
    if split == "temporal":
        assert last.state == "fine"
        learnt = "train, its epoch chosen by ndcg_10 of valid"
        assert last.found == f"finetune: {learnt}; quantize: {learnt}"
    else:
        assert last.found.startswith("quantize learnt from the split leave one out")
        assert last.state == "leak"


def test_blocks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a count in plain loops, with rows that the split leaves out among them."""
    rng = np.random.default_rng(0)
    users = np.sort(rng.integers(0, 40, 600))
    rows = {"user": users, "item": rng.integers(0, 30, 600), "timestamp": rng.integers(0, 50, 600)}
    split = rng.choice(np.array([0, 0, 0, 1, 2, -1, -2], np.int8), 600)
    dataset = write_rows(tmp_path / "d", rows, {"temporal": split})
    whole = measure_leakage(dataset, "temporal")
    monkeypatch.setattr(leakage, "BATCH", 7)
    assert measure_leakage(dataset, "temporal") == whole
    events = [event for event in zip(*rows.values(), split, strict=True) if event[3] >= 0]
    train = {event[:3] for event in events if event[3] == 0}
    last = max(time for _, _, time in train)
    expected = dict.fromkeys(("early", "disordered", "twice", "met", "new_items"), 0)
    for place, (user, item, time, part) in enumerate(events):
        if part == 2:
            before = [event for event in events[:place] if event[0] == user]
            expected["early"] += time <= last
            expected["disordered"] += any(event[2] > time for event in before)
            expected["twice"] += (user, item, time) in train
            expected["met"] += any(event[1] == item for event in before)
            expected["new_items"] += item not in {one for _, one, _ in train}
    assert expected["met"] == whole.met["test event"][1]
    assert {name: getattr(whole, name) for name in expected if name != "met"} == {
        name: count for name, count in expected.items() if name != "met"
    }
    assert whole.events == sum(event[3] == 2 for event in events)
