"""Code usage on cases whose entropy is known."""

import numpy as np
import pytest

from modalrec.evaluation.codes import colliding, level_usage

CODES = np.array([[0, 3], [1, 3], [2, 3], [3, 3]], np.int32)


def test_even_and_collapsed_levels() -> None:
    even, collapsed = level_usage(CODES, [4, 8])
    assert (even.used, even.entropy, even.perplexity) == (4, pytest.approx(2.0), pytest.approx(4.0))
    assert (collapsed.used, collapsed.entropy, collapsed.perplexity) == (1, 0.0, 1.0)
    assert collapsed.counts.tolist() == [0, 0, 0, 4, 0, 0, 0, 0]


def test_no_items() -> None:
    (level,) = level_usage(np.zeros((0, 1), np.int32), [4])
    assert (level.used, level.perplexity) == (0, 1.0)


def test_colliding() -> None:
    assert colliding(CODES) == 0
    assert colliding(CODES[:, 1:]) == 3


def test_normalised_entropy_is_between_none_and_all() -> None:
    even, collapsed = level_usage(CODES, [4, 8])
    assert (even.normalised_entropy, collapsed.normalised_entropy) == (1, 0)
    (only,) = level_usage(CODES[:1] * 0, [1, 1])[:1]
    assert only.normalised_entropy == 1
