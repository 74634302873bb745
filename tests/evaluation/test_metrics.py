"""Metrics against numbers worked out by hand, and the bootstrap against resampling users one by one."""

import json
from pathlib import Path

import numpy as np
import pytest

from modalrec.evaluation.metrics import bootstrap, gains_at, measure, tie_gap
from modalrec.evaluation.ranking import Ranking
from modalrec.recommenders import TopK

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "ranking_by_hand.json").read_text())


def make_ranking(greater: list[int], equal: list[int], top: list[list[int]], n_items: int) -> Ranking:
    users = np.arange(len(greater), dtype=np.int32)
    lists = TopK(np.array(top, np.int64), np.zeros((len(top), len(top[0])), np.float32))
    return Ranking(users, users.copy(), users + 1, np.array(greater), np.array(equal), lists, n_items)


def random_ranking(n_users: int, worst: int, seed: int) -> Ranking:
    greater = np.random.default_rng(seed).integers(0, worst, n_users).tolist()
    return make_ranking(greater, [0] * n_users, [[0] * 20] * n_users, 100)


@pytest.mark.parametrize("ties", ["conservative", "standard", "median"])
def test_numbers_by_hand(ties: str) -> None:
    ranking = make_ranking(*(REFERENCE[name] for name in ("greater", "equal", "top_items", "n_items")))
    assert measure(ranking, (1, 3), ties) == pytest.approx(REFERENCE[ties], abs=1e-12)  # type: ignore[arg-type]


def test_coverage_ignores_missing_places() -> None:
    ranking = make_ranking([9, 9], [0, 0], [[3, -1], [3, 1]], 10)
    assert measure(ranking, (1, 2))["coverage_1"] == pytest.approx(0.1)
    assert measure(ranking, (1, 2))["coverage_2"] == pytest.approx(0.2)


def test_cutoff_beyond_the_lists_is_refused() -> None:
    with pytest.raises(ValueError, match="cut-off 21 exceeds the lists of 20"):
        gains_at(random_ranking(3, 5, 0), 21)


def test_tie_gap() -> None:
    calm = make_ranking([0] * 2000, [0] * 2000, [[0] * 20] * 2000, 100)
    assert tie_gap(calm) == 0.0
    tied = make_ranking([0] * 2000, [0] * 1997 + [30] * 3, [[0] * 20] * 2000, 100)
    assert tie_gap(tied) == pytest.approx(0.0015)


@pytest.mark.parametrize("metric", ["recall", "ndcg", "mrr"])
def test_bootstrap_is_that_of_users(metric: str) -> None:
    ranking = random_ranking(400, 60, 1)
    interval = bootstrap(ranking, metric, 10, np.random.default_rng(0), samples=4000)
    values = gains_at(ranking, 10)[metric]
    draws = np.random.default_rng(1).integers(0, 400, (4000, 400))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.005)
    assert interval.low < values.mean() < interval.high


def test_paired_bootstrap_sees_what_two_intervals_hide() -> None:
    ours = random_ranking(400, 60, 1)
    theirs = make_ranking((ours.greater + 2).tolist(), [0] * 400, [[0] * 20] * 400, 100)
    rng = np.random.default_rng(0)
    apart = bootstrap(ours, "recall", 10, rng, than=theirs)
    assert apart.low > 0
    alone, other = bootstrap(ours, "recall", 10, rng), bootstrap(theirs, "recall", 10, rng)
    assert alone.low < other.high
    same = bootstrap(ours, "ndcg", 10, rng, than=ours)
    assert (same.low, same.high) == (0.0, 0.0)


def test_bootstrap_is_deterministic_and_draws_from_its_generator_alone() -> None:
    ranking = random_ranking(300, 40, 2)
    first, again, other = (bootstrap(ranking, "ndcg", 10, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_paired_bootstrap_needs_the_same_users() -> None:
    with pytest.raises(ValueError, match="same targets"):
        bootstrap(random_ranking(5, 9, 1), "recall", 10, np.random.default_rng(0), than=random_ranking(4, 9, 1))
