"""Recommenders at the edges of data: no history, one item, all items seen, equal scores, lists that are too long."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from modalrec import plugins
from modalrec.config import resolve
from modalrec.data.splits import TEST
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import Ranking, TieMode, rank
from modalrec.recommenders import BASE_KIND, Recommender
from modalrec.run import Run
from modalrec.testing.recommenders import item_space
from tests.evaluation.tiny import Table, make_sequences
from tests.recommenders import mp4sr_cases
from tests.recommenders.test_contract import NAMES, SMALL

QUIET = Run("evaluate", device="cpu", quiet=True)


def build(name: str, n_items: int) -> Recommender:
    """A small model with random weights over a catalogue."""
    plugin = plugins.discover(BASE_KIND)[name]
    config = resolve(plugin.Config, SMALL.get(name, {}))
    space = item_space(n_items, (n_items, 1, 1))
    edges = plugin.edges(config)
    if "text_embeddings" in edges:
        space = mp4sr_cases.multimodal_space(n_items)
    if "embeddings" in edges:
        vectors = np.random.default_rng(0).standard_normal((n_items, 12)).astype(np.float32)
        space = replace(space, content=vectors)
    torch.manual_seed(0)
    return plugin(config, space).eval()


def listed(model: Recommender, history: list[int], k: int, *, mask_seen: bool = True) -> list[int]:
    """One list, checked: real items once, best first, -1 behind them."""
    top = model.recommend([np.array(history, np.int32)], k, mask_seen=mask_seen)
    items = top.items[0].tolist()
    real = [item for item in items if item >= 0]
    assert items == real + [-1] * (k - len(real))
    assert len(set(real)) == len(real)
    scores = top.scores[0][: len(real)]
    assert np.isfinite(scores).all()
    assert (np.diff(scores) <= 0).all()
    return real


SITUATIONS: dict[str, Callable[[str], None]] = {
    "a list longer than the catalogue": lambda name: _same(listed(build(name, 4), [1, 2], 9), {0, 3}),
    "all items seen": lambda name: _same(listed(build(name, 4), [0, 1, 2, 3], 3), set()),
    "the same item again and again": lambda name: _same(listed(build(name, 4), [2] * 30, 3), {0, 1, 3}),
    "a history longer than any": lambda name: _some(listed(build(name, 6), list(range(5)) * 200, 3)),
    "two items": lambda name: _same(listed(build(name, 2), [1], 2), {0}),
    "nothing masked": lambda name: _same(listed(build(name, 3), [1], 3, mask_seen=False), {0, 1, 2}),
}


def _same(found: list[int], items: set[int]) -> None:
    assert set(found) == items


def _some(found: list[int]) -> None:
    assert set(found) <= {5}


@pytest.mark.fault("edges")
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_recommender_has_a_defined_list(name: str, situation: str) -> None:
    SITUATIONS[situation](name)


def found_by_none(n_items: int, ties: TieMode) -> float:
    """What a model finds in first place that tells no two items apart."""
    histories = [[row % n_items, (row + 1) % n_items, (row + 2) % n_items, row % 2] for row in range(4)]
    sequences, scores = make_sequences(histories, n_items), np.zeros((n_items, n_items), np.float32)
    ranked = rank(Table(scores), sequences, sequences.targets(TEST), mask_seen=False, k=1, run=QUIET)
    return measure(ranked, (1,), ties=ties)["recall_1"]


@pytest.mark.fault("edges")
@pytest.mark.parametrize("n_items", [2, 5, 40])
@pytest.mark.parametrize(("ties", "found"), [("conservative", 0.0), ("standard", 1.0)])
def test_equal_scores_are_counted_against_a_model_unless_asked_otherwise(
    n_items: int, ties: TieMode, found: float
) -> None:
    assert found_by_none(n_items, ties) == found


@pytest.mark.guard("edges")
def test_without_counting_equals_a_constant_model_would_be_perfect(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = Ranking.ranks
    monkeypatch.setattr(Ranking, "ranks", lambda self, ties: ranks(self, "standard"))
    with pytest.raises(AssertionError):
        test_equal_scores_are_counted_against_a_model_unless_asked_otherwise(5, "conservative", 0.0)
