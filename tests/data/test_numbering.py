import numpy as np
import pyarrow as pa
import pytest

from modalrec.data import _numbering
from modalrec.data._numbering import Numbering
from modalrec.data.names import as_names


@pytest.mark.parametrize("largest", [_numbering.LARGEST, 5], ids=["table", "names"])
def test_whole_numbers_and_their_names_are_the_same_ids(monkeypatch, largest):
    monkeypatch.setattr(_numbering, "LARGEST", largest)
    numbering = Numbering()
    rng = np.random.default_rng(0)
    seen: dict[int, int] = {}
    for given in (rng.integers(0, 50, 30), rng.integers(40, 5000, 30), rng.integers(-3, 50, 30)):
        expected = [seen.setdefault(one, len(seen)) for one in given.tolist()]
        ids = pa.array(given)
        assert numbering(ids).tolist() == expected
        assert numbering(as_names(ids)).tolist() == expected
    assert list(numbering.numbers) == [str(one) for one in seen]


def test_ids_that_are_not_known_have_no_number():
    numbering = Numbering({"7": 3, "x": 5})
    assert numbering(pa.array([7, 8, 7])).tolist() == [3, -1, 3]
    assert numbering(as_names(pa.array(["x", "8", "7"]))).tolist() == [5, -1, 3]
    assert numbering(pa.array([], pa.int64())).tolist() == []
