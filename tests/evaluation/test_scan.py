"""Counts and lists of tiles against sorting everything, compiled and in numpy."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modalrec import compiled
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST
from modalrec.evaluation import scan as scan_module
from modalrec.evaluation import tiles as tiles_module
from modalrec.evaluation.ranking import rank
from modalrec.evaluation.scan import NEAR, Scan, padded
from modalrec.run import Run
from tests.evaluation.tiny import Table, make_sequences


@pytest.fixture(params=["compiled", "numpy"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(compiled, "AVAILABLE", False)
    elif not compiled.AVAILABLE:
        pytest.skip("numba is not installed")
    return str(request.param)


def random_scores(rng: np.random.Generator, n_rows: int, n_items: int, values: int) -> NDArray[np.float32]:
    """Few values, so that ties abound, and what is no candidate."""
    scores = rng.integers(0, values, (n_rows, n_items)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    scores[rng.random(scores.shape) < 0.05] = -np.inf
    return scores


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 70),
    n_items=st.integers(1, 400),
    k=st.integers(0, 12),
    tile=st.integers(1, 150),
    values=st.sampled_from([1, 3, 40, 10_000]),
    width=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 1000),
)
@example(n_rows=64, n_items=NEAR + 1, k=1, tile=99, values=1, width=0.5, seed=0)
def check(n_rows: int, n_items: int, k: int, tile: int, values: int, width: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = random_scores(rng, n_rows, n_items, values)
    allowed = rng.random(n_items) < 0.8
    targets = rng.integers(0, n_items, n_rows)
    target = np.nan_to_num(scores[np.arange(n_rows), targets], nan=1.0, neginf=0.0)
    scores[np.arange(n_rows), targets] = target
    allowed[targets] = True
    scan = Scan(target - np.float32(width), target + np.float32(width), k)
    lanes = np.zeros((tile, padded(n_rows)), np.float32)
    for begin in range(0, n_items, tile):
        part = scores[:, begin : begin + tile]
        lanes[: part.shape[1], :n_rows] = part.T
        scan.take(lanes[: part.shape[1]], allowed[begin : begin + tile], begin)
    shown = np.where(allowed, scores, np.nan)
    greater, equal, sure = scan.settle(target)
    within = (shown >= target[:, None] - width) & (shown <= target[:, None] + width)
    assert sure.tolist() == ((within.sum(1) <= NEAR) | (width == 0)).tolist()
    assert greater[sure].tolist() == (shown > target[:, None]).sum(1)[sure].tolist()
    assert equal[sure].tolist() == ((shown == target[:, None]).sum(1) - 1)[sure].tolist()
    assert scan.missing_B[:n_rows].tolist() == np.isnan(scores[:, allowed]).sum(1).tolist()
    best = scan.best()
    for row in range(n_rows):
        candidates = [item for item in range(n_items) if shown[row, item] > -np.inf]
        expected = sorted(candidates, key=lambda item: (-shown[row, item], item))[:k]
        assert best.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert best.scores[row, : len(expected)].tolist() == shown[row, expected].tolist()


def test_any_tiling_gives_the_counts_and_lists_of_sorting(way: str) -> None:
    check()


class Guessing(Table):
    """A table that guesses its scores with an error, as another order of summing would."""

    def __init__(self, table: NDArray[np.float32], error: float) -> None:
        super().__init__(table)
        self.error, self.tiles = error, 0

    def score(self, prepared: NDArray[np.int64], begin: int, end: int) -> NDArray[np.float32]:
        self.tiles += 1
        return super().score(prepared, begin, end)

    def score_of(self, prepared: NDArray[np.int64], items: NDArray[np.int32]) -> NDArray[np.float32]:
        exact = self.table[prepared, items]
        return np.asarray(exact + self.error * np.where(items % 2, 1, -1), np.float32)


def sessions(rng: np.random.Generator, n_users: int, n_items: int) -> Sequences:
    histories = [rng.integers(0, n_items, rng.integers(2, 7)).tolist() for _ in range(n_users)]
    data = make_sequences(histories, n_items)
    return Sequences(data.items, data.offsets, np.full(len(data.items), TEST, np.int8), n_items, "sessions")


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("error", [0.0, 1e-6, 0.5, np.nan, np.inf])
@pytest.mark.parametrize("values", [1, 5, 100_000])
def test_ranks_do_not_depend_on_a_guess(
    way: str, mask_seen: bool, error: float, values: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "NEAR", 8)
    rng = np.random.default_rng(values)
    data = sessions(rng, 40, 120)
    table = rng.integers(0, values, (120, 120)).astype(np.float32)
    targets, chosen = data.targets(TEST, every=True), np.arange(120) % 5 > 0
    settings_ = {"mask_seen": mask_seen, "k": 10, "run": run, "batch_size": 50, "tile": 32, "candidates": chosen}
    plain = rank(Table(table), data, targets, **settings_)  # type: ignore[arg-type]
    guessed = rank(Guessing(table, error), data, targets, **settings_)  # type: ignore[arg-type]
    for row, (user, item, end) in enumerate(zip(targets.users, targets.items, targets.ends, strict=True)):
        history = data.items[data.offsets[user] : end]
        scores = np.where(chosen, table[history[-1]], np.nan)
        if mask_seen:
            scores[history] = np.nan
        if not np.isnan(scores[item]):
            assert plain.greater[row] == (scores > scores[item]).sum()
            assert plain.equal[row] == (scores == scores[item]).sum() - 1
        else:
            assert plain.ranks("standard")[row] > 120
    for name in ("greater", "equal"):
        np.testing.assert_array_equal(getattr(guessed, name), getattr(plain, name))
    np.testing.assert_array_equal(guessed.top.items, plain.top.items)


@pytest.mark.parametrize(("error", "passes"), [(1e-6, 1), (0.5, 2)])
def test_a_good_guess_saves_the_second_pass(error: float, passes: int, run: Run) -> None:
    rng = np.random.default_rng(0)
    scorer = Guessing(rng.normal(size=(300, 300)), error)
    data = sessions(rng, 30, 300)
    rank(scorer, data, data.targets(TEST), mask_seen=True, k=5, run=run, tile=50)
    assert scorer.tiles == 6 * passes


@pytest.mark.parametrize(("room", "calls"), [(256 * 2**20, 6), (0, 12)])
def test_tiles_are_kept_while_they_fit(room: int, calls: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a guess all targets' scores come first; what is kept is not scored again."""
    monkeypatch.setattr(tiles_module, "KEPT", room)
    monkeypatch.setattr(Guessing, "score_of", lambda *_: None)
    rng = np.random.default_rng(0)
    scorer = Guessing(rng.normal(size=(300, 300)), 0)
    data = sessions(rng, 90, 300)
    ranking = rank(scorer, data, data.targets(TEST), mask_seen=True, k=5, run=run, tile=50, batch_size=90)
    assert len(ranking) == 90
    assert scorer.tiles == calls
