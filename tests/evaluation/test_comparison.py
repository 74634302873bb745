"""Differences between recommenders, and slices of the targets."""

import numpy as np
import pytest
from scipy import stats

from modalrec.data.sequences import Sequences
from modalrec.evaluation.comparison import differences, holm, slices
from modalrec.evaluation.metrics import gains_at
from modalrec.evaluation.ranking import Ranking
from modalrec.evaluation.results import Result, summarise
from modalrec.recommenders import TopK
from modalrec.run import Run
from tests.evaluation.tiny import make_sequences

RUN = Run("compare", quiet=True)


def ranked(greater: list[int], users: list[int] | None = None) -> Ranking:
    count = len(greater)
    owners = np.array(users if users is not None else range(count), np.int32)
    top = TopK(np.zeros((count, 10), np.int64), np.zeros((count, 10), np.float32))
    zeros = np.zeros(count, np.int32)
    return Ranking(owners, zeros, np.arange(count, dtype=np.int32), np.array(greater), zeros.astype(np.int64), top, 99)


def result(role: str, greater: list[int], sequences: Sequences, users: list[int] | None = None) -> Result:
    return summarise(role, ranked(greater, users), sequences, [10], RUN.rng(role), 200)


@pytest.fixture
def sequences() -> Sequences:
    return make_sequences([[0, 1, 2, 3]] * 60, 4)


def test_holm_is_the_published_correction() -> None:
    """Holm 1979: step down, times what is left, monotone."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_paired_by_users(sequences: Sequences) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 20, 60)
    one = result("one", list(base), sequences)
    better = result("better", list(np.maximum(base - 2, 0)), sequences)
    found = differences([better, one], one, "ndcg", 10, RUN, 500)
    assert found[1] is None
    first = found[0]
    assert first is not None
    gains = [gains_at(of.ranking, 10)["ndcg"] for of in (better, one)]
    assert first.value == pytest.approx((gains[0] - gains[1]).mean())
    assert first.p == pytest.approx(stats.ttest_rel(*gains).pvalue)
    assert 0 < first.interval.low < first.value < first.interval.high


def test_more_comparisons_need_more_evidence(sequences: Sequences) -> None:
    base = list(np.random.default_rng(1).integers(0, 20, 60))
    one, two = result("one", base, sequences), result("two", [max(rank - 1, 0) for rank in base], sequences)
    alone = differences([two], one, "ndcg", 10, RUN, 200)[0]
    beside = differences([two, result("same", base, sequences)], one, "ndcg", 10, RUN, 200)[0]
    assert alone is not None
    assert beside is not None
    assert beside.p == pytest.approx(min(2 * alone.p, 1.0))


def test_equal_recommenders_differ_by_chance_alone(sequences: Sequences) -> None:
    one, two = (result(name, [0, 5, 20] * 20, sequences) for name in ("one", "two"))
    found = differences([two], one, "recall", 10, RUN, 200)[0]
    assert found is not None
    assert (found.value, found.p) == (0.0, 1.0)


def test_targets_of_one_user_count_as_one(sequences: Sequences) -> None:
    """Ten times the same targets are no more evidence than one."""
    users = [user for user in range(6) for _ in range(10)]
    better = [0 if user % 3 else 12 for user in users]
    one, two = result("one", [12] * 60, sequences, users), result("two", better, sequences, users)
    found = differences([two], one, "recall", 10, RUN, 200)[0]
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_1samp([0, 1, 1, 0, 1, 1], 0.0).pvalue)


def test_slices_cover_every_target_once() -> None:
    """Item 0 has a third of the train events; item 4 none."""
    users = [[0, 0, 1, 2, 3], [0, 1, 2, 1, 4], [0, 3, 2, 0, 0]]
    sequences = make_sequences(users, 5)
    ranking = ranked([0, 1, 2])
    targets = sequences.targets(2)
    ranking = Ranking(
        targets.users, targets.items, ranking.positions, ranking.greater, ranking.equal, ranking.top, sequences.n_items
    )
    found = {one.name: one.kinds for one in slices(ranking, sequences, np.array([True, False, True, False, False]))}
    assert found["items"].keys() == {"head", "tail", "new"}
    assert found["items"]["new"].tolist() == [False, True, False]
    assert "histories" not in found  # all are of one kind
    assert found["pictures"]["with"].tolist() == [False, False, True]
    for kinds in found.values():
        assert np.array_equal(sum(flags.astype(int) for flags in kinds.values()), np.ones(3))
