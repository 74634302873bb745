"""A row of results: its names, and the users that are counted apart."""

from dataclasses import replace

import numpy as np
import pytest

from modalrec.data.splits import TEST, TRAIN
from modalrec.evaluation.ranking import rank
from modalrec.evaluation.results import Result, summarise
from modalrec.run import Run
from tests.evaluation.tiny import Table, make_sequences


@pytest.fixture
def result(run: Run) -> Result:
    """Three users: one known, one without train events, one whose target is the first event."""
    sequences = make_sequences([[0, 1, 2], [1, 2, 0], [2, 2, 2]], 5)
    split = np.array([TRAIN, TRAIN, TEST, TEST, TEST, TEST, TEST, TEST, TEST], np.int8)
    late = replace(sequences, split=split, offsets=np.array([0, 3, 8, 9]), split_name="temporal")
    ranking = rank(Table(np.eye(5)), late, late.targets(TEST), mask_seen=False, k=2, run=run)
    return summarise("model", ranking, late, (1, 2), np.random.default_rng(0), 200, part="temporal")


@pytest.mark.fault("edges")
def test_cold_users_and_unknown_targets_are_counted_apart(result: Result) -> None:
    assert (len(result.ranking), result.cold_users) == (2, 1)
    assert (result.users_without_train, result.targets_without_train) == (1, 2)


@pytest.mark.fault("edges")
def test_warm_and_cold_targets_are_measured_apart(run: Run) -> None:
    """Items 0 and 1 have two train events, item 2 one, item 3 none; everybody is given what comes after the last."""
    sequences = make_sequences([[0, 1, 0, 1], [0, 1, 1, 2], [2, 0, 2, 3], [1, 0, 0, 3]], 4)
    following = np.roll(np.eye(4), 1, axis=1)
    ranking = rank(Table(following), sequences, sequences.targets(TEST), mask_seen=False, k=1, run=run)
    rng = np.random.default_rng(0)
    strict = summarise("model", ranking, sequences, (1,), rng, 100)
    assert strict.warmth["cold"] == {"predictions": 2, "recall_1": 0.5, "ndcg_1": 0.5, "mrr_1": 0.5}
    assert (strict.flat()["warm_recall_1"], strict.flat()["cold_predictions"]) == (1, 2)
    seldom = summarise("model", ranking, sequences, (1,), rng, 100, cold_below=2)
    assert seldom.warmth["cold"]["recall_1"] == pytest.approx(2 / 3)
    assert seldom.warmth["warm"] == {"predictions": 1, "recall_1": 1, "ndcg_1": 1, "mrr_1": 1}
    everything = make_sequences([[0, 1, 2, 3, 0, 0]] * 4, 4)
    assert summarise("model", ranking, everything, (1,), rng, 100).warmth == {}


def test_names_carry_the_row(result: Result) -> None:
    numbers = result.flat()
    assert {"temporal_recall_2", "temporal_ndcg_1", "temporal_coverage_2", "temporal_recall_2_low"} <= numbers.keys()
    assert "recall_2" in replace(result, part="").flat()
    assert all(isinstance(value, float) for value in numbers.values())


def test_the_primary_metric_has_an_interval_and_sets_the_cutoff(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2], [1, 2, 0], [2, 0, 1]], 5)
    ranking = rank(Table(np.eye(5)), sequences, sequences.targets(TEST), mask_seen=False, k=4, run=run)
    rng = np.random.default_rng(0)
    assert list(summarise("model", ranking, sequences, (1, 2, 4), rng, 200).intervals) == ["recall_4", "ndcg_4"]
    chosen = summarise("model", ranking, sequences, (1, 2, 4), rng, 200, primary="mrr_2")
    assert (list(chosen.intervals), chosen.cutoff) == (["recall_2", "ndcg_2", "mrr_2"], 2)
    assert list(summarise("model", ranking, sequences, (1, 2), rng, 200, primary="coverage_1").intervals) == [
        "recall_1",
        "ndcg_1",
    ]
