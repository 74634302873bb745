"""The evaluator against brute force, and what it refuses."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST, VALID
from modalrec.errors import ConfigError, TrainingError
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import Ranking, rank
from modalrec.recommenders import Recommender, TopK
from modalrec.run import Run
from tests.evaluation.tiny import Table, make_sequences

RandomSequences = Callable[..., Sequences]


class Lists(Recommender):
    """Gives one prepared list to everybody."""

    def __init__(self, items: list[int], scores: list[float]) -> None:
        nn.Module.__init__(self)
        self.items_k, self.scores_k = np.array(items), np.array(scores, np.float32)

    def batches(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
        raise NotImplementedError

    def loss(self, batch: object) -> dict:  # type: ignore[type-arg]
        raise NotImplementedError

    def recommend(self, histories: Sequence[NDArray[np.int32]], k: int, *, mask_seen: bool) -> TopK:
        return TopK(np.tile(self.items_k, (len(histories), 1)), np.tile(self.scores_k, (len(histories), 1)))


def tied_scores(n_items: int, seed: int = 1) -> NDArray[np.float32]:
    """Few distinct values, so that ties abound."""
    return np.random.default_rng(seed).integers(0, 12, (n_items, n_items)).astype(np.float32)


def brute_force(scorer: Table, sequences: Sequences, mask_seen: bool, k: int) -> list[tuple[int, int, list[int]]]:
    """Greater, equal and top-k of every user by sorting everything, one user at a time."""
    answers = []
    for user in range(sequences.n_users):
        events = sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]].tolist()
        *history, target = events
        scores = scorer.table[history[-1]]
        hidden = set(history) if mask_seen else set()
        candidates = [item for item in range(sequences.n_items) if item not in hidden]
        greater = sum(scores[item] > scores[target] for item in candidates)
        equal = sum(scores[item] == scores[target] for item in candidates if item != target)
        if target in hidden:
            greater, equal = max(sequences.n_items, k), 0
        answers.append((greater, equal, sorted(candidates, key=lambda item: (-scores[item], item))[:k]))
    return answers


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize(("batch_size", "tile"), [(1, 1), (7, 13), (512, 32), (512, 4096)])
def test_agrees_with_brute_force(
    random_sequences: RandomSequences, run: Run, mask_seen: bool, batch_size: int, tile: int
) -> None:
    sequences = random_sequences(60, 90)
    scorer = Table(tied_scores(90))
    ranking = rank(
        scorer, sequences, sequences.targets(TEST), mask_seen=mask_seen, k=20, run=run, batch_size=batch_size, tile=tile
    )
    expected = brute_force(scorer, sequences, mask_seen, 20)
    assert ranking.users.tolist() == list(range(60))
    assert ranking.greater.tolist() == [greater for greater, _, _ in expected]
    assert ranking.equal.tolist() == [equal for _, equal, _ in expected]
    assert ranking.top.items.tolist() == [top for _, _, top in expected]


@pytest.mark.fault("edges")
def test_tie_modes_order_the_target_among_its_equals(random_sequences: RandomSequences, run: Run) -> None:
    sequences = random_sequences(40, 30)
    ranking = rank(Table(tied_scores(30)), sequences, sequences.targets(TEST), mask_seen=True, k=5, run=run)
    assert ranking.equal.max() > 0
    np.testing.assert_array_equal(ranking.ranks("standard"), ranking.greater + 1)
    np.testing.assert_array_equal(ranking.ranks("conservative"), ranking.greater + ranking.equal + 1)
    np.testing.assert_array_equal(
        ranking.ranks("median"), (ranking.ranks("standard") + ranking.ranks("conservative")) / 2
    )


def test_metrics_do_not_depend_on_batch_or_tile(random_sequences: RandomSequences, run: Run) -> None:
    sequences = random_sequences(300, 500)
    scorer = Table(np.random.default_rng(3).normal(size=(500, 500)))
    every = [
        measure(
            rank(scorer, sequences, sequences.targets(TEST), mask_seen=True, k=20, run=run, batch_size=batch, tile=tile)
        )
        for batch, tile in [(1, 500), (512, 500), (33, 17)]
    ]
    assert every[0] == every[1] == every[2]


def test_masking_leaves_the_scorers_own_array_alone(random_sequences: RandomSequences, run: Run) -> None:
    sequences = random_sequences(20, 10)
    scorer = Table(tied_scores(10))
    before = scorer.table.copy()
    rank(scorer, sequences, sequences.targets(TEST), mask_seen=True, k=3, run=run)
    np.testing.assert_array_equal(scorer.table, before)


@pytest.mark.fault("edges")
def test_masked_items_are_never_listed_and_a_repeated_target_is_a_miss(run: Run) -> None:
    """Lists of a recommender cannot hold a masked item, so neither may ranks by scores: rows stay comparable."""
    sequences = make_sequences([[0, 1, 2, 1]], 4)
    scorer = Table(np.array([[9.0, 5.0, 7.0, 1.0]] * 4))
    seen = rank(scorer, sequences, sequences.targets(TEST), mask_seen=True, k=4, run=run)
    assert seen.top.items.tolist() == [[3, -1, -1, -1]]
    assert np.isneginf(seen.top.scores[0, 1:]).all()
    assert measure(seen, (4,))["recall_4"] == 0.0
    shown = rank(scorer, sequences, sequences.targets(TEST), mask_seen=False, k=4, run=run)
    assert shown.top.items.tolist() == [[0, 2, 1, 3]]
    assert shown.ranks().tolist() == [3.0]


@pytest.mark.fault("edges")
def test_one_item_one_user(run: Run) -> None:
    sequences = make_sequences([[0, 0, 0]], 1)
    ranking = rank(Table(np.zeros((1, 1))), sequences, sequences.targets(TEST), mask_seen=False, k=10, run=run)
    assert ranking.ranks().tolist() == [1.0]
    assert measure(ranking, (1, 10))["recall_1"] == 1.0


@pytest.mark.fault("edges")
def test_users_without_history_are_not_ranked(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2], [1, 2, 0]], 3)
    split = sequences.split.copy()
    split[3:] = TEST
    late = replace(sequences, split=split, split_name="temporal", offsets=np.array([0, 3, 5, 6]))
    ranking = rank(Table(np.eye(3)), late, late.targets(TEST), mask_seen=True, k=2, run=run)
    assert late.cold_users(TEST) == 1
    assert ranking.users.tolist() == [0, 1]


@pytest.mark.fault("edges")
def test_no_user_at_all(run: Run) -> None:
    sequences = make_sequences([[0, 1]], 3)
    ranking = rank(Table(np.eye(3)), sequences, sequences.targets(TEST), mask_seen=True, k=2, run=run)
    assert len(ranking) == 0
    assert measure(ranking, (1, 2)) == dict.fromkeys(measure(ranking, (1, 2)), 0.0)


@pytest.mark.fault("training")
def test_nan_scores_name_the_user(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2], [1, 2, 0], [2, 0, 1]], 3)
    table = np.zeros((3, 3))
    table[2, 1] = np.nan
    with pytest.raises(TrainingError, match="user 1: 1 of 3 users"):
        rank(Table(table), sequences, sequences.targets(TEST), mask_seen=True, k=2, run=run)


def test_only_evaluate_ranks_the_test_part(random_sequences: RandomSequences) -> None:
    sequences = random_sequences(5, 20)
    training = Run("finetune", quiet=True)
    with pytest.raises(ConfigError, match="stage evaluate alone"):
        rank(Table(np.eye(20)), sequences, sequences.targets(TEST), mask_seen=True, k=5, run=training)
    valid = rank(Table(np.eye(20)), sequences, sequences.targets(VALID), mask_seen=True, k=5, run=training)
    assert len(valid) == 5


@pytest.mark.parametrize(
    ("items", "scores", "rank_of_target"),
    [
        ([2, 1, 0], [3, 2, 1], 1),
        ([1, 0, 2], [3, 2, 1], 3),
        ([1, 2, 0], [3, 3, 1], 2),
        ([1, 3, -1], [3, 2, -np.inf], None),
    ],
)
def test_lists_rank_by_place_and_miss_beyond(
    items: list[int], scores: list[float], rank_of_target: int | None, run: Run
) -> None:
    sequences = make_sequences([[0, 1, 2]], 4)
    ranking = rank(Lists(items, scores), sequences, sequences.targets(TEST), mask_seen=False, k=3, run=run)
    if rank_of_target is None:
        assert ranking.ranks("standard")[0] > max(4, 3)
    else:
        assert ranking.ranks().tolist() == [rank_of_target]


@pytest.mark.fault("edges")
@pytest.mark.parametrize(
    ("items", "scores", "message"),
    [
        ([1, 1, 2], [3, 2, 1], "user 0: .* holds an item twice"),
        ([1, 2, 9], [3, 2, 1], "beyond the catalogue of 4"),
        ([1, 2, 3], [1, 2, 3], "not ordered by score"),
        ([1, 2, 3], [np.nan, 2, 1], "NaN"),
        ([1, 2, -1], [3, 2, 1], "missing item"),
        ([1, 2], [3, 2], r"shape \(1, 2\), expected \(1, 3\)"),
    ],
)
def test_lists_that_are_none_are_refused(items: list[int], scores: list[float], message: str, run: Run) -> None:
    sequences = make_sequences([[0, 1, 2]], 4)
    with pytest.raises(TrainingError, match=message):
        rank(Lists(items, scores), sequences, sequences.targets(TEST), mask_seen=False, k=3, run=run)


def test_exhaustive_needs_scores(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2]], 4)
    lists = Lists([0, 1, 2], [3, 2, 1])
    with pytest.raises(ConfigError, match="exhaustive"):
        rank(lists, sequences, sequences.targets(TEST), mask_seen=False, k=3, run=run, exhaustive=True)


@pytest.mark.fault("edges")
def test_constant_scores_find_nothing(random_sequences: RandomSequences, run: Run) -> None:
    sequences = random_sequences(50, 100)
    ranking: Ranking = rank(
        Table(np.ones((100, 100))), sequences, sequences.targets(TEST), mask_seen=False, k=20, run=run
    )
    assert measure(ranking)["recall_20"] == 0.0
    assert measure(ranking, ties="standard")["recall_1"] == 1.0


@pytest.mark.fault("edges")
@pytest.mark.parametrize("mask_seen", [True, False])
def test_what_is_no_candidate_is_neither_counted_nor_listed(
    random_sequences: RandomSequences, run: Run, mask_seen: bool
) -> None:
    sequences, scorer = random_sequences(60, 90), Table(tied_scores(90))
    chosen = np.arange(90) % 3 > 0
    ranking = rank(
        scorer, sequences, sequences.targets(TEST), mask_seen=mask_seen, k=20, run=run, tile=17, candidates=chosen
    )
    # The items that are left, alone, under new numbers.
    hidden = np.where(chosen, scorer.table, -1e9).astype(np.float32)
    for row, (greater, equal, top) in enumerate(brute_force(Table(hidden), sequences, mask_seen, 20)):
        if chosen[ranking.targets[row]]:
            assert (ranking.greater[row], ranking.equal[row]) == (greater, equal)
        else:
            assert ranking.ranks("standard")[row] > 90
        assert ranking.top.items[row].tolist() == [item for item in top if chosen[item]]


def test_lists_lose_what_is_no_candidate(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2]], 5)
    lists = Lists([4, 3, 2, 1], [4, 3, 2, 1])
    chosen = np.array([True, True, True, False, True])
    ranking = rank(lists, sequences, sequences.targets(TEST), mask_seen=False, k=4, run=run, candidates=chosen)
    assert ranking.top.items.tolist() == [[4, 2, 1, -1]]
    assert ranking.top.scores.tolist() == [[4, 2, 1, -np.inf]]
    assert ranking.ranks().tolist() == [2.0]


class Watching(Table):
    """Remembers the histories that it was given."""

    batches: list[list[list[int]]] = []

    def prepare(self, histories: Sequence[NDArray[np.int32]]) -> NDArray[np.int64]:
        self.batches.append([history.tolist() for history in histories])
        return super().prepare(histories)


def test_every_event_is_ranked_and_the_histories_of_a_user_come_in_order(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2, 3], [4, 3, 2, 1, 0]], 5)
    sequences = replace(sequences, split=np.full(9, TEST, np.int8), split_name="sessions")
    targets, scorer = sequences.targets(TEST, every=True), Watching(np.random.default_rng(0).normal(size=(5, 5)))
    ranking = rank(scorer, sequences, targets, mask_seen=False, k=5, run=run, batch_size=7)
    assert ranking.users.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert ranking.positions.tolist() == [1, 2, 3, 1, 2, 3, 4]
    assert scorer.batches == [[[0], [0, 1], [0, 1, 2], [4], [4, 3], [4, 3, 2], [4, 3, 2, 1]]]
    for row, item in enumerate([0, 1, 2, 4, 3, 2, 1]):
        assert ranking.greater[row] == (scorer.table[item] > scorer.table[item, ranking.targets[row]]).sum()


@pytest.mark.fault("edges")
def test_tiebreaking_is_uniform_among_equals_and_repeatable(run: Run) -> None:
    sequences = make_sequences([[0, 1, 2]] * 3000, 5)
    ranking = rank(Table(np.ones((5, 5))), sequences, sequences.targets(TEST), mask_seen=False, k=5, run=run)
    ranks = ranking.ranks("tiebreaking")
    assert np.bincount(ranks.astype(int), minlength=6)[1:] / 3000 == pytest.approx([0.2] * 5, abs=0.03)
    np.testing.assert_array_equal(ranks, ranking.ranks("tiebreaking"))
    assert (ranks != replace(ranking, seed=1).ranks("tiebreaking")).any()
