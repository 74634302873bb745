from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.histories import Histories
from modalrec.data.names import as_lists_of_names

ROWS = {f"i{item}": item for item in range(3)}
given_lists = st.lists(st.lists(st.sampled_from(["i0", "i1", "i2", "gone"]), max_size=5) | st.none(), max_size=12)


@given(given_lists, st.integers(1, 5), st.randoms())
def test_lists_come_back_by_number_without_unknown_items(tmp_path_factory, lists, size, random):
    expected = [[ROWS[item] for item in one or [] if item in ROWS] for one in lists]
    with Histories(tmp_path_factory.getbasetemp()) as histories:
        for begin in range(0, len(lists), size):
            histories.add(as_lists_of_names(pa.array(lists[begin : begin + size], pa.list_(pa.string()))), ROWS)
        order = random.choices(range(len(lists)), k=20) if lists else []
        assert histories.take(np.array(order, np.int32)).to_pylist() == [expected[place] for place in order]
        assert len(histories) == len(lists)
        assert histories.entries == sum(len(one or []) for one in lists)
        assert histories.unknown.total() == sum((one or []).count("gone") for one in lists)


def test_nothing_stays_on_disk(tmp_path: Path):
    with Histories(tmp_path) as histories:
        histories.add(as_lists_of_names(pa.array([["i0"]])), ROWS)
        assert list(tmp_path.iterdir()) == []
