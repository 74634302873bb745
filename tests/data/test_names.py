import pyarrow as pa
import pytest

from modalrec.data.names import NAMES, as_lists_of_names, as_names


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.int16(), 2)])
def test_ids_that_are_numbers_become_names(kind):
    lists = as_lists_of_names(pa.array([[3, 1], [1, 1]], kind))
    assert lists.type == pa.list_(NAMES)
    assert lists.to_pylist() == [["3", "1"], ["1", "1"]]


def test_padding_is_left_out_and_a_null_is_empty():
    lists = pa.array([[0, 0, 4], None, [0], [5, 0, 6]], pa.list_(pa.int64()))
    assert as_lists_of_names(lists, padding=0).to_pylist() == [["4"], [], [], ["5", "6"]]
    assert as_lists_of_names(lists.slice(2), padding=0).to_pylist() == [[], ["5", "6"]]


@pytest.mark.parametrize(
    "ids", [pa.array([7, 8, 7]), pa.array(["7", "8", "7"]), pa.array([7, 8, 7]).dictionary_encode()]
)
def test_flat_ids(ids):
    assert as_names(ids).type == NAMES
    assert as_names(ids).to_pylist() == ["7", "8", "7"]
