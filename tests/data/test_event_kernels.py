"""Events brought together by user and repeats among them, by compiled code, beside their twins in numpy."""

import numpy as np
import pytest

from modalrec.compiled import AVAILABLE
from modalrec.data import events as module
from modalrec.data._event_kernels import RUN, by_user
from modalrec.data.events import Events

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="numba is not installed: the twins are all there is")


@pytest.mark.parametrize("n_users", [1, 3, 400])
@pytest.mark.parametrize("n", [0, 1, 1000])
def test_events_come_together_as_by_a_stable_sort(n_users: int, n: int) -> None:
    users = np.random.default_rng(n).integers(0, n_users, n).astype(np.int32)
    np.testing.assert_array_equal(by_user(users, n_users), np.argsort(users, kind="stable"))


@pytest.mark.parametrize("told", [(), ("ratings",), ("ratings", "labels")])
@pytest.mark.parametrize("longest", [1, 4, RUN, RUN + 1, 3 * RUN])
def test_repeats_are_those_of_the_twin(told: tuple[str, ...], longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(longest)
    lengths = rng.integers(1, longest + 1, 60)
    lengths[0] = longest
    n = int(lengths.sum())
    columns = {
        "ratings": rng.choice(np.array([1.0, 2.0, np.nan], np.float32), n),
        "labels": rng.integers(0, 2, n).astype(np.int8),
    }
    given = Events(
        np.repeat(np.arange(60) // 3, lengths).astype(np.int32),
        rng.integers(0, 6, n).astype(np.int32),
        np.repeat(np.arange(60), lengths),
        **{name: columns[name] for name in told},
    )
    fast = given.exact_repeats()
    monkeypatch.setattr(module, "AVAILABLE", False)
    slow = given.exact_repeats()
    np.testing.assert_array_equal(fast, slow)
    rows = zip(*(column.tolist() for column in (given.users, given.timestamps, given.items)), strict=True)
    keys = [(*row, *(columns[name][place].tobytes() for name in told)) for place, row in enumerate(rows)]
    seen: set[tuple] = set()
    for place, key in enumerate(keys):
        assert slow[place] == (key in seen)
        seen.add(key)
