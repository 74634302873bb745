"""Katib's medianstop, worked out by hand."""

from modalrec.tuning.stopping import MedianStop


def test_the_rule_begins_after_enough_trials_and_compares_best_values_with_a_mean() -> None:
    rule = MedianStop(maximise=True, min_trials=2, start_step=2)
    rule.succeeded([0.1, 0.3, 0.9])
    assert rule.threshold() is None
    rule.succeeded([0.5, 0.7])
    assert rule.threshold() == 0.4  # of 0.2 and 0.6
    assert not rule.ends([0.1], 0.4), "too early"
    assert rule.ends([0.1, 0.3], 0.4)
    assert not rule.ends([0.5, 0.1, 0.1], 0.4), "the best so far counts"
    assert not rule.ends([0.0, 0.0, 0.0], None), "there was no threshold when the trial began"


def test_less_is_better_where_the_objective_says_so() -> None:
    rule = MedianStop(maximise=False, min_trials=1, start_step=1)
    rule.succeeded([2.0])
    assert rule.ends([3.0], rule.threshold())
    assert not rule.ends([3.0, 1.0], rule.threshold())
