"""Lines of plain numbers, beside Python's own reading of them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.compiled import AVAILABLE
from modalrec.data import delimited
from modalrec.data._number_kernels import DECIMAL, SKIPPED, WHOLE, parse_lines
from modalrec.data.delimited import read_delimited

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="numba is not installed: Arrow reads all files")

KINDS = np.array([WHOLE, SKIPPED, DECIMAL], np.int8)


def parse(text: str, delimiter: str = ",") -> tuple[int, list, list]:
    lines = text.encode()
    count = lines.count(b"\n")
    whole, decimal = np.zeros((3, count), np.int64), np.zeros((3, count), np.float32)
    found = parse_lines(np.frombuffer(lines, np.uint8), ord(delimiter[0]), len(delimiter), KINDS, whole, decimal)
    return found, whole[0, :found].tolist(), decimal[2, :found].tolist()


@given(
    st.lists(
        st.tuples(
            st.integers(-(10**18) + 1, 10**18 - 1),
            st.sampled_from(["", "any text", "1"]),
            st.integers(-9_999_999, 9_999_999),
            st.integers(0, 6),
        ),
        max_size=9,
    ),
    st.sampled_from([",", "::", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_numbers_are_the_nearest_of_their_type(rows, delimiter, end):
    cells = [(str(whole), text, f"{number / 10**places:.{places}f}") for whole, text, number, places in rows]
    cells = [one for one in cells if sum(map(str.isdigit, one[2])) <= 7]
    found, whole, decimal = parse("".join(delimiter.join(one) + end for one in cells), delimiter)
    assert found == len(cells)
    assert whole == [int(one[0]) for one in cells]
    assert decimal == [np.float32(one[2]) for one in cells]


@pytest.mark.parametrize(
    "odd",
    ["", "1,a", "1,a,", ",a,2", "1,a,2,3", "+1,a,2", " 1,a,2", "1 ,a,2", '"1",a,2', "1.0,a,2", "1,a,2e1", "1,a,nan",
     "1,a,.", "1,a,1.2.3", "-,a,2", "1,a,12345678", "1234567890123456789,a,2", "1;a;2"],
)  # fmt: skip
def test_parsing_stops_at_what_is_not_plain(odd):
    assert parse(f"1,a,2.5\n{odd}\n3,b,4\n") == (1, [1], [2.5])


@pytest.mark.parametrize("odd", ["700, 7 ,1.5", '"700",7,1.5', "700,7,15e-1", "700,7,1.500000000"])
def test_a_file_that_is_odd_further_down_is_read_all_the_same(tmp_path, monkeypatch, odd):
    monkeypatch.setattr(delimited, "NUMBERS_BLOCK", 1024)
    lines = [f"{n},7,1.5" for n in range(1000)]
    lines[700] = odd
    path = tmp_path / "events.csv"
    path.write_text("user,note,rating\n" + "\n".join(lines))
    fields = [("user", pa.int64()), ("rating", pa.float32())]
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])
    table = pa.Table.from_batches(read_delimited(path, schema))
    assert table["user"].to_pylist() == list(range(1000))
    assert set(table["rating"].to_pylist()) == {1.5}
