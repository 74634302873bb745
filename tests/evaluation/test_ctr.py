import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score, roc_curve

from modalrec.evaluation.ctr import auc, auc_interval, calibration, calibration_error, log_loss, roc, user_auc

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from([0.0, 0.25, 0.5, 0.75])), min_size=1)


def arrays(rows: list[tuple[int, int, float]]) -> tuple[NDArray[np.int32], NDArray[np.int8], NDArray[np.float32]]:
    users, labels, scores = zip(*rows, strict=True)
    return np.array(users, np.int32), np.array(labels, np.int8), np.array(scores, np.float32)


@given(ROWS)
def test_auc_is_exact_with_ties(rows: list[tuple[int, int, float]]) -> None:
    _, labels, scores = arrays(rows)
    if len(set(labels)) < 2:
        assert np.isnan(auc(labels, scores))
    else:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(ROWS)
def test_user_auc_is_the_mean_over_users_weighted_by_their_rows(rows: list[tuple[int, int, float]]) -> None:
    users, labels, scores = arrays(rows)
    own = {user: np.flatnonzero(users == user) for user in set(users.tolist())}
    own = {user: places for user, places in own.items() if len(set(labels[places])) == 2}
    mean, count = user_auc(users, labels, scores)
    assert count == len(own)
    if own:
        aucs = [roc_auc_score(labels[places], scores[places]) for places in own.values()]
        assert mean == pytest.approx(np.average(aucs, weights=[len(places) for places in own.values()]))
    else:
        assert np.isnan(mean)


@pytest.mark.fault("edges")
def test_constant_scores_tell_nothing() -> None:
    labels = np.array([0, 1, 1, 0], np.int8)
    assert auc(labels, np.full(4, 0.3, np.float32)) == 0.5
    assert user_auc(np.zeros(4, np.int32), labels, np.full(4, 0.3, np.float32)) == (0.5, 1)


def test_scores_that_tell_users_apart_alone_are_worth_nothing_inside_users() -> None:
    users = np.repeat(np.arange(50, dtype=np.int32), 10)
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < np.repeat(rng.random(50), 10)).astype(np.int8)
    rate = np.repeat([labels[users == user].mean() for user in range(50)], 10).astype(np.float32)
    assert auc(labels, rate) > 0.7
    assert user_auc(users, labels, rate)[0] == 0.5


def test_log_loss_is_that_of_scikit_learn_and_survives_certainty() -> None:
    rng = np.random.default_rng(0)
    labels, said = rng.integers(0, 2, 200).astype(np.int8), rng.random(200).astype(np.float32)
    assert log_loss(labels, said) == pytest.approx(sklearn_log_loss(labels, said.astype(float)), abs=1e-6)
    assert log_loss(np.array([1], np.int8), np.array([0.0], np.float32)) == pytest.approx(-np.log(1e-7))


def test_true_probabilities_are_calibrated_and_doubled_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    said = (0.5 * rng.random(20_000)).astype(np.float32)
    labels = (rng.random(20_000) < said).astype(np.int8)
    curve = calibration(labels, said, bins=10)
    assert [one.rows for one in curve] == [2000] * 10
    assert calibration_error(curve) < 0.02
    assert calibration_error(calibration(labels, 2 * said)) > 0.2
    assert [one.rows for one in calibration(labels, np.full(20_000, 0.25, np.float32))] == [20_000]


@given(ROWS)
def test_the_curve_is_that_of_scikit_learn_without_an_infinite_threshold(rows: list[tuple[int, int, float]]) -> None:
    _, labels, scores = arrays(rows)
    found = roc(labels, scores)
    assert np.isfinite(found.thresholds).all()
    if len(set(labels)) == 2:
        false, true, thresholds = roc_curve(labels, scores, drop_intermediate=False)
        np.testing.assert_allclose(found.false_positives, false)
        np.testing.assert_allclose(found.true_positives, true)
        np.testing.assert_allclose(found.thresholds[1:], thresholds[1:])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 5000).astype(np.int8), rng.random(5000).astype(np.float32)
    found = roc(labels, scores, points=50)
    assert len(found.thresholds) == 51
    assert (found.false_positives[0], found.true_positives[0]) == (0, 0)
    assert (found.false_positives[-1], found.true_positives[-1]) == (1, 1)


def test_the_interval_resamples_users_whole() -> None:
    """Rows of a user that agree tell as little as one: a hundred copies do not narrow the interval."""
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60).astype(np.int8), rng.random(60).astype(np.float32)
    users = np.arange(60, dtype=np.int32)
    alone = auc_interval(users, labels, scores, np.random.default_rng(1), 200)
    copied = auc_interval(*(np.repeat(each, 100) for each in (users, labels, scores)), np.random.default_rng(1), 200)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert alone.low < auc(labels, scores) < alone.high
    assert alone.high - alone.low > 0.1
