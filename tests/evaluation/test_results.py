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


def test_cold_users_and_unknown_targets_are_counted_apart(result: Result) -> None:
    assert (len(result.ranking), result.cold_users) == (2, 1)
    assert (result.users_without_train, result.targets_without_train) == (1, 2)


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
