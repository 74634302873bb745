"""Negative samples by popularity: their distribution, and that each step's depend on its number alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from modalrec.errors import ConfigError
from modalrec.training.sampling import SampleStore, alias_table


def draws(support: np.ndarray, n: int, alpha: float, seed: int = 0) -> np.ndarray:
    return SampleStore(support, n, alpha, n, seed).samples(0, 0, 1, 1)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0, 2.0])
def test_sample_alpha_gives_the_distribution_support_to_the_alpha(alpha: float) -> None:
    support = np.array([500, 1, 0, 7, 7, 120, 3, 0, 40, 1000])
    n = 200_000
    counts = np.bincount(draws(support, n, alpha), minlength=10)
    wanted = np.where(support > 0, support.astype(float) ** alpha, 0)
    wanted *= n / wanted.sum()
    assert (counts[support == 0] == 0).all()
    assert chisquare(counts[support > 0], wanted[support > 0]).pvalue > 1e-3


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50).filter(any), st.floats(0, 1.5))
def test_alias_table_holds_exactly_the_probabilities(support: list[int], alpha: float) -> None:
    weights = np.array([s for s in support if s], np.float64) ** alpha
    wanted = weights / weights.sum()
    chance, other = alias_table(wanted.copy())
    found = np.minimum(chance, 1) / len(wanted)
    np.add.at(found, other, np.maximum(1 - chance, 0) / len(wanted))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)


def test_tail_items_of_a_catalogue_of_two_million_are_drawn_at_the_right_rate() -> None:
    """Half of all draws go to 100 popular items, the rest to 2 million, each of probability 2.5e-7.

    A cumulative table in float32 has steps of 6e-8 above .5, so that these items get 0, 1 or 2 units of 1.2e-7 or less.
    """
    n_tail, n_head, n = 2_000_000, 100, 4_000_000
    support = np.concatenate([np.full(n_head, n_tail // n_head), np.ones(n_tail, np.int64)])
    drawn = draws(support, n, 1.0)
    tail = drawn[drawn >= n_head] - n_head
    assert len(tail) == pytest.approx(n / 2, rel=0.005)
    assert chisquare(np.bincount(tail // 200, minlength=n_tail // 200)).pvalue > 1e-3
    # Within a group of 200 too: how often an item is drawn is Poisson of mean 1.
    times = np.bincount(np.bincount(tail, minlength=n_tail), minlength=8)[:8]
    poisson = n_tail * np.exp(-1) / np.array([1, 1, 2, 6, 24, 120, 720, 5040])
    np.testing.assert_allclose(times[:6], poisson[:6], rtol=0.03)

    cumulative = (np.cumsum(support) / support.sum()).astype(np.float32)
    rates = np.diff(cumulative[n_head:].astype(np.float64)) * 2 * n_tail
    assert (np.abs(rates - 1) > 0.04).mean() > 0.5, "a float32 table would fail"


def test_draws_are_the_same_in_order_whatever_the_chunking() -> None:
    support = np.arange(1, 40)
    whole = SampleStore(support, 5, 0.5, 35, seed=3).samples(2, 0, 30, 30)
    for chunk in (1, 2, 7, 8, 30):
        store = SampleStore(support, 5, 0.5, 35, seed=3)
        parts = [store.samples(2, begin, min(begin + chunk, 30), 30) for begin in range(0, 30, chunk)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("size", [1, 5, 12, 35, 10**7])
def test_sample_store_size_is_used_up_before_more_is_drawn(size: int) -> None:
    """A store holds whole steps, one at least; a run that is resumed in the middle of a store gets the rest of it."""
    support = np.arange(1, 40)
    whole = SampleStore(support, 5, 0.5, size, seed=3)
    assert whole.steps == max(1, size // 5)
    drawn = whole.samples(0, 0, 20, 20)
    assert len(np.unique(drawn, axis=0)) == 20
    for middle in (1, 6, 7, 13, 19):
        resumed = SampleStore(support, 5, 0.5, size, seed=3)
        np.testing.assert_array_equal(resumed.samples(0, middle, 20, 20), drawn[middle:])


def test_seed_and_epoch_change_the_draws() -> None:
    support = np.arange(1, 400)
    first = SampleStore(support, 50, 0.5, 1000, seed=0).samples(0, 0, 3, 3)
    np.testing.assert_array_equal(SampleStore(support, 50, 0.5, 1000, seed=0).samples(0, 0, 3, 3), first)
    assert (SampleStore(support, 50, 0.5, 1000, seed=1).samples(0, 0, 3, 3) != first).mean() > 0.9
    assert (SampleStore(support, 50, 0.5, 1000, seed=0).samples(1, 0, 3, 3) != first).mean() > 0.9


def test_no_samples_is_an_empty_row() -> None:
    assert SampleStore(np.zeros(3, np.int64), 0, 0.5, 10, 0).samples(0, 2, 6, 9).shape == (4, 0)


def test_refuses_to_sample_from_nothing() -> None:
    with pytest.raises(ConfigError, match=r"n_sample: there is no train event .*set n_sample=0"):
        SampleStore(np.zeros(3, np.int64), 4, 0.5, 10, 0)
