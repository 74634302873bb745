from pathlib import Path

import pyarrow as pa
import pytest

from modalrec.data.sources.atomic import Atomic
from modalrec.errors import DataError
from modalrec.run import Run
from modalrec.stages.ingest import Config, ingest
from tests.raw import histories, write_inter


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_events_and_their_items_in_the_files_order(delimiter: str, tmp_path: Path) -> None:
    source = Atomic(Atomic.Config(), write_inter(tmp_path, delimiter))
    events = pa.Table.from_batches(source.interactions())
    expected = [(user, item, time) for user, item, _, time in histories()]
    assert (
        list(zip(*(events[name].to_pylist() for name in ("user_id", "item_id", "timestamp")), strict=True)) == expected
    )
    items = pa.Table.from_batches(source.items())
    assert items["item_id"].to_pylist() == list(dict.fromkeys(item for _, item, _ in expected))
    assert items["text"].null_count == len(items)
    assert (source.has_timestamps, source.has_ratings) == (True, False)


def test_ingest_takes_it_for_what_it_is(tmp_path: Path) -> None:
    config = Config(min_user_events=3, min_item_events=1)
    found = ingest(write_inter(tmp_path / "raw"), tmp_path / "dataset", config=config, run=Run("ingest", quiet=True))
    assert (found["users"], found["items"]) == (8, 6)


def test_other_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("session_id:token,item_id:token\n1,2\n")
    with pytest.raises(DataError, match=r"expected user_id:token and item_id:token.*found session_id:token"):
        Atomic(Atomic.Config(), tmp_path)
