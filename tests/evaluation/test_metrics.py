"""Metrics against numbers worked out by hand, and the bootstrap against resampling users one by one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modalrec.evaluation import metrics as metrics_module
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


def several_each(n_users: int, seed: int) -> Ranking:
    """Users of one to twelve targets, whose hits come together."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(n_users, dtype=np.int32), rng.integers(1, 13, n_users))
    good = rng.random(n_users)[users] < 0.4
    greater = np.where(good, rng.integers(0, 12, len(users)), rng.integers(5, 90, len(users)))
    lists = TopK(np.zeros((len(users), 20), np.int64), np.zeros((len(users), 20), np.float32))
    positions = np.arange(len(users), dtype=np.int32)
    return Ranking(users, users.copy(), positions, greater, np.zeros(len(users), np.int64), lists, 100)


@pytest.mark.parametrize("metric", ["recall", "mrr"])
@pytest.mark.parametrize("draws", [20_000_000, 1000])
def test_users_are_resampled_with_all_their_targets(metric: str, draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_module, "DRAWS", draws)
    ranking = several_each(300, 3)
    interval = bootstrap(ranking, metric, 10, np.random.default_rng(0), samples=4000)
    gains = gains_at(ranking, 10)[metric]
    drawn = np.random.default_rng(1).integers(0, 300, (4000, 300))
    sums, sizes = np.bincount(ranking.users, gains), np.bincount(ranking.users)
    low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.004)
    # Targets of one user are alike, so resampling them one by one would promise too much.
    alone = np.quantile(np.random.default_rng(2).choice(gains, (1000, len(gains))).mean(1), [0.025, 0.975])
    assert interval.high - interval.low > 1.2 * (alone[1] - alone[0])


def test_paired_intervals_of_several_targets_a_user() -> None:
    ours = several_each(300, 3)
    theirs = replace(ours, greater=ours.greater + 2)
    assert bootstrap(ours, "recall", 10, np.random.default_rng(0), than=theirs).low > 0
    same = bootstrap(ours, "mrr", 10, np.random.default_rng(0), than=ours)
    assert (same.low, same.high) == (0.0, 0.0)
    with pytest.raises(ValueError, match="same targets"):
        bootstrap(ours, "mrr", 10, np.random.default_rng(0), than=replace(ours, positions=ours.positions + 1))


def test_intervals_follow_the_tie_mode() -> None:
    tied = make_ranking([0] * 300 + [50] * 100, [19] * 400, [[0] * 20] * 400, 100)
    low = {
        ties: bootstrap(tied, "recall", 10, np.random.default_rng(0), ties=ties).low
        for ties in ("conservative", "standard", "median", "tiebreaking")
    }
    assert low["conservative"] == 0.0
    assert low["standard"] == pytest.approx(0.71, abs=0.02)
    # The middle of twenty is place 10.5, so none is a hit; at random half of them are.
    assert low["median"] == 0.0
    assert low["tiebreaking"] == pytest.approx(0.33, abs=0.06)
