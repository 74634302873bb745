"""The report's sentences follow from the numbers."""

from dataclasses import replace

import numpy as np
import pytest

from modalrec.evaluation.metrics import Interval, bootstrap, measure, tie_gap
from modalrec.evaluation.ranking import Ranking
from modalrec.evaluation.report import words
from modalrec.evaluation.results import Dropped, Result
from modalrec.recommenders import TopK
from modalrec.run import Run


def make_result(name: str, hits: int, users: int = 400, equal: int = 0) -> Result:
    """The first `hits` users have the target at place 1, the others nowhere."""
    greater = np.where(np.arange(users) < hits, 0, 99)
    indices = np.arange(users, dtype=np.int32)
    lists = TopK(np.zeros((users, 20), np.int64), np.zeros((users, 20), np.float32))
    ranking = Ranking(indices, indices, indices + 1, greater, np.full(users, equal), lists, 100)
    rng = np.random.default_rng(0)
    intervals = {f"{metric}_10": bootstrap(ranking, metric, 10, rng) for metric in ("recall", "ndcg")}
    return Result(name, "leave_one_out", ranking, measure(ranking), intervals, tie_gap(ranking), 0, 0, 0)


def say(run: Run, **hits: int) -> tuple[str, str]:
    """Verdict and remarks of rows with so many hits among 400 users."""
    results = {name: make_result(name, count) for name, count in hits.items()}
    comparisons = words.compare(results, run, 500)
    remarks = words.remarks(results, comparisons, {}, {})
    return words.verdict(results, comparisons), " ".join(remarks)


def test_verdict_gives_ratios_and_doubt(run: Run) -> None:
    verdict, remarks = say(run, model=80, popularity=40, item_knn=84)
    assert verdict.startswith("recall_10 is 0.200 (95 % interval 0.1")
    assert "2.0 times popularity and 0.95 of item-KNN" in verdict
    assert "baseline, which trains in a second, is ahead" in remarks


@pytest.mark.parametrize(
    ("row", "count", "sentence"),
    [
        ("scratch", 40, "Pre-training helps."),
        ("scratch", 80, "Whether pre-training helps cannot be told"),
        ("scratch", 120, "Pre-training hurts here."),
        ("shuffled", 40, "The model uses the order of events."),
        ("shuffled", 80, "Shuffling does not measurably hurt"),
        ("shuffled", 120, "Shuffling helps"),
        ("item_knn", 40, "The model is ahead of this baseline."),
    ],
)
def test_controls_are_told_as_they_came_out(run: Run, row: str, count: int, sentence: str) -> None:
    assert sentence in say(run, model=80, **{row: count})[1]


def test_nothing_to_compare_with_zero(run: Run) -> None:
    assert "above zero of popularity" in say(run, model=4, popularity=0)[0]
    assert "equal to the zero of popularity (a difference within chance)" in say(run, model=0, popularity=0)[0]


def test_weak_order_is_said(run: Run) -> None:
    results = {"model": make_result("model", 10)}
    remarks = words.remarks(results, {}, {}, {"order_is_weak": 1.0, "equal_time_share": 0.5085})
    assert any("51 % of a user's neighbouring events have the same time" in remark for remark in remarks)


def test_saturated_scores_are_a_warning() -> None:
    assert words.warnings({"model": make_result("model", 10)}) == []
    (warning,) = words.warnings({"model": make_result("model", 10, equal=50)})
    assert "the order of equal scores decides 2.50 % of recall" in warning


def test_outcome() -> None:
    outcomes = [words.Comparison(0, 0, Interval(*ends)).outcome for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))]
    assert outcomes == ["better", "worse", "within chance"]


def test_sessions_of_several_targets_are_called_so(run: Run) -> None:
    single = make_result("model", 80)
    ranking = replace(single.ranking, users=single.ranking.users // 4)
    result = replace(single, split="sessions", ranking=ranking, dropped=Dropped(30, 2))
    assert words.size(result) == "400 targets of 100 sessions"
    cards = {name: (value, remark) for name, value, remark in words.cards(result, {})}
    assert cards["test sessions"] == ("100", "400 targets")
    assert cards["dropped"][0] == "30"
    said = " ".join(words.remarks({"model": result}, {}, {}, {}))
    assert "30 test events were dropped before the ranking" in said
    assert "2 sessions had no target left" in said
    assert "The sessions were resampled whole" in said
    assert words.size(single) == "400 users"


def test_further_test_sets_are_told_and_not_compared(run: Run) -> None:
    other = replace(make_result("model", 40), split="sessions_day2", part="day2")
    popular = replace(other, role="popularity")
    results = {"model": make_result("model", 80), "day2": other, "day2_popularity": popular}
    assert list(results) == [result.name for result in results.values()]
    assert words.compare(results, run, 200) == {}
    assert any("On the further test set day2 recall_10 is 0.100" in said for said in words.remarks(results, {}, {}, {}))


def test_ties_are_named(run: Run) -> None:
    saturated = replace(make_result("model", 10, equal=50), ties="median")
    assert "the target comes in the middle of its equals" in words.warnings({"model": saturated})[0]
