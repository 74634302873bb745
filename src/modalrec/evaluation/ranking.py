"""The evaluator: ranks every target against the whole catalogue, tile by tile.

Sampled metrics are inconsistent even in expectation (Krichene and Rendle, KDD 2020), so there is no sampled mode. Per
target it counts the candidates that score greater and those that score equal; every way to treat ties follows from the
two counts. Candidates are all items, or the given ones, but with `mask_seen` those of the user's history; a target that
is no candidate is a miss, whatever ranks it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from modalrec.data.sequences import Sequences, Targets
from modalrec.data.splits import TEST
from modalrec.errors import ConfigError, TrainingError
from modalrec.evaluation.scan import Scan
from modalrec.evaluation.tiles import Tiles
from modalrec.recommenders import Recommender, Scorer, TopK
from modalrec.run import Run

# B histories of a batch, T items of a tile, U targets, k length of the lists.

TieMode = Literal["conservative", "standard", "median", "tiebreaking"]
ROUNDING = 1e-5
"""By how much of its size a score may differ from the scorer's guess of it."""
TIE_MODES: tuple[TieMode, ...] = get_args(TieMode)


@dataclass(frozen=True)
class Ranking:
    """What a recommender did with each target; a user may have several.

    Attributes:
        users: [U] user indices, ascending.
        targets: [U] item indices.
        positions: [U] place of the target among the user's events: the length of its history.
        greater: [U] candidates that score greater than the target.
        equal: [U] candidates that score equal to the target, itself not counted.
        top: The k best candidates after every history.
        n_items: Size of the catalogue.
        seed: Of the tie mode tiebreaking.
    """

    users: NDArray[np.int32]
    targets: NDArray[np.int32]
    positions: NDArray[np.int32]
    greater: NDArray[np.int64]
    equal: NDArray[np.int64]
    top: TopK
    n_items: int
    seed: int = 0

    def __len__(self) -> int:
        return len(self.users)

    def same_targets(self, other: "Ranking") -> bool:
        """Whether row for row the same user, the same item and the same place is meant."""
        pairs = ((self.users, other.users), (self.positions, other.positions), (self.targets, other.targets))
        return all(np.array_equal(mine, theirs) for mine, theirs in pairs)

    def ranks(self, ties: TieMode = "conservative") -> NDArray[np.float64]:
        """[U] ranks from 1: the target comes after its equals, before them, in their middle, or at a random place.

        Tiebreaking is 1 + greater + a whole number drawn uniformly from [0, equal]: the place of the target when its
        equals are put in random order. Tiny random noise on all scores aims at just that, but noise small enough to
        leave unequal scores in order can be lost in rounding, and larger noise moves targets past better ones.
        """
        if ties == "tiebreaking":
            passed: NDArray[np.int64] = np.random.default_rng(self.seed).integers(0, self.equal, endpoint=True)
            return (self.greater + passed).astype(np.float64) + 1.0
        share = {"conservative": 1.0, "standard": 0.0, "median": 0.5}[ties]
        return self.greater + share * self.equal + 1.0

    @property
    def n_users(self) -> int:
        """Users with at least one target."""
        return len(np.unique(self.users))


def rank(
    recommender: Recommender | Scorer,
    sequences: Sequences,
    targets: Targets,
    *,
    mask_seen: bool,
    k: int,
    run: Run,
    batch_size: int = 256,
    tile: int = 4096,
    exhaustive: bool = False,
    candidates: NDArray[np.bool_] | None = None,
    what: str = "ranking",
) -> Ranking:
    """Ranks targets by the lists of a `Recommender`, or by all scores of a `Scorer`.

    In a list a target's rank is its place; a target that is not in it is a miss: its rank is beyond the catalogue and
    beyond k, so a metric at a cut-off up to k cannot count it. Ties are those inside the list.

    Args:
        recommender: A trained model or a baseline.
        sequences: The events that histories are read from.
        targets: What to rank, from `sequences.targets`.
        mask_seen: Leave the items of the history out of the candidates.
        k: Length of the lists that are kept; at least the largest cut-off of the metrics.
        run: Shows progress. Test targets are ranked in the stage `evaluate` alone.
        batch_size: Histories at a time.
        tile: Items at a time; memory is batch_size x tile, whatever the catalogue's size, and at most 256 MB more for a
            scorer that does not guess its targets' scores (`Scorer.score_of`).
        exhaustive: Rank a recommender that is a scorer too by all its scores instead of its lists.
        candidates: [n_items] what may be recommended, everything by default. The rest is neither counted nor listed: it
            is taken out of the lists of a recommender that gives lists, which are then shorter.
        what: The label of the progress line.

    Raises:
        ConfigError: Test targets outside of `evaluate`, so that no choice is ever made by the test part; or
            `exhaustive` for a recommender that gives lists alone.
        TrainingError: A score is NaN or a list is not one; the message names the user.
    """
    if run.stage != "evaluate" and bool((sequences.split[targets.ends] == TEST).any()):
        raise ConfigError(f"{run.stage}: the test part is ranked by the stage evaluate alone; use the validation part")
    n = len(targets)
    greater, equal = np.zeros(n, np.int64), np.zeros(n, np.int64)
    items, scores = np.full((n, k), -1, np.int64), np.full((n, k), -np.inf, np.float32)
    lists = recommender if isinstance(recommender, Recommender) and not exhaustive else None
    scorer = recommender if isinstance(recommender, Scorer) and lists is None else None
    positions = (targets.ends - sequences.offsets[targets.users]).astype(np.int32)
    order = _order(targets, positions)
    with run.progress(what, n) as progress:
        for begin in range(0, n, batch_size):
            rows = order[begin : begin + batch_size]
            batch = targets.take(rows)
            histories = sequences.histories(batch)
            if scorer is not None:
                result = _by_scores(scorer, batch, histories, sequences.n_items, mask_seen, candidates, k, tile)
            elif lists is not None:
                result = _by_lists(lists, batch, histories, sequences.n_items, mask_seen, candidates, k)
            else:
                raise ConfigError(f"exhaustive: {type(recommender).__name__} gives lists, not scores; set it to false")
            greater[rows], equal[rows], items[rows], scores[rows] = result
            progress.advance(len(rows))
    lists_of_all = TopK(items, scores)
    return Ranking(targets.users, targets.items, positions, greater, equal, lists_of_all, sequences.n_items, run.seed)


Result = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]


def _order(targets: Targets, positions: NDArray[np.int32]) -> NDArray[np.int64]:
    """Histories of similar length are neighbours, as a batch is padded to its longest.

    Where users have several targets, their histories begin alike: they stay together, the shortest first, so that a
    recurrent model can go through the longest of them once.
    """
    repeated = targets.users[1:] == targets.users[:-1]
    if repeated.any():
        return np.arange(len(targets))
    return np.argsort(positions, kind="stable")


def _by_scores(
    scorer: Scorer,
    batch: Targets,
    histories: list[NDArray[np.int32]],
    n_items: int,
    mask_seen: bool,
    candidates: NDArray[np.bool_] | None,
    k: int,
    tile: int,
) -> Result:
    prepared = scorer.prepare(histories)
    guess_B = scorer.score_of(prepared, batch.items)
    masked = _seen(histories) if mask_seen else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    tiles = Tiles(scorer, prepared, batch.items, masked, n_items, tile, keep=guess_B is None)
    allowed_N = np.ones(n_items, bool) if candidates is None else candidates
    if guess_B is None:
        tiles.score_targets()
        low_B = high_B = tiles.target_B
    else:
        low_B, high_B = _window(guess_B)
    scan = Scan(low_B, high_B, k)
    for begin, scores_TB in tiles:
        scan.take(scores_TB, allowed_N[begin : begin + tile], begin)
    # More NaN than were put there by masking are the scorer's.
    hidden_B = np.bincount(masked[0][allowed_N[masked[1]]], minlength=len(batch))
    _refuse_nan(tiles.wrong_B | (scan.missing_B[: len(batch)] > hidden_B), batch)
    greater_B, equal_B, sure_B = scan.settle(tiles.target_B)
    if not sure_B.all():
        # What is sure already needs no counting: nothing is above infinity.
        exact_B = np.where(sure_B, np.float32(np.inf), tiles.target_B)
        again = Scan(exact_B, exact_B, 0)
        for begin, scores_TB in tiles:
            again.take(scores_TB, allowed_N[begin : begin + tile], begin)
        greater_again_B, equal_again_B, _ = again.settle(exact_B)
        greater_B, equal_B = np.where(sure_B, greater_B, greater_again_B), np.where(sure_B, equal_B, equal_again_B)
    missed = ~allowed_N[batch.items]
    missed[masked[0][masked[1] == batch.items[masked[0]]]] = True
    greater_B[missed], equal_B[missed] = max(n_items, k), 0
    top = scan.best()
    return greater_B, equal_B, top.items, top.scores


def _window(guess_B: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Where the targets' scores will be found: far wider than rounding, far narrower than what lies between items."""
    with np.errstate(invalid="ignore"):  # a guess of infinity has no window and is counted in the second pass
        scale = np.sqrt(np.mean(np.square(guess_B, dtype=np.float64)))
        slack_B = (ROUNDING * (np.abs(guess_B) + scale)).astype(np.float32)
        return guess_B - slack_B, guess_B + slack_B


def _by_lists(
    recommender: Recommender,
    batch: Targets,
    histories: list[NDArray[np.int32]],
    n_items: int,
    mask_seen: bool,
    candidates: NDArray[np.bool_] | None,
    k: int,
) -> Result:
    top = recommender.recommend(histories, k, mask_seen=mask_seen)
    _check_lists(top, batch, n_items, k)
    if candidates is not None:
        top = _only(top, candidates)
    hit_Bk = top.items == batch.items[:, None]
    found = hit_Bk.any(1)
    target_B = np.where(found, top.scores[np.arange(len(batch)), hit_Bk.argmax(1)], np.inf)
    greater_B = np.where(found, (top.scores > target_B[:, None]).sum(1), max(n_items, k))
    equal_B = np.where(found, (top.scores == target_B[:, None]).sum(1) - 1, 0)
    return greater_B, equal_B, top.items, top.scores


def _only(top: TopK, candidates: NDArray[np.bool_]) -> TopK:
    """The lists without what is no candidate, the rest moved up."""
    out_Bk = (top.items < 0) | ~candidates[top.items]
    order_Bk = np.argsort(out_Bk, axis=1, kind="stable")
    items, scores = np.where(out_Bk, -1, top.items), np.where(out_Bk, np.float32(-np.inf), top.scores)
    return TopK(np.take_along_axis(items, order_Bk, 1), np.take_along_axis(scores, order_Bk, 1))


def _seen(histories: list[NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and items of the histories, each pair once, sorted by item."""
    rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    pairs = np.unique(np.concatenate([np.zeros(0, np.int64), *histories]) * len(histories) + rows)
    items, rows = np.divmod(pairs, len(histories))
    return rows, items


def _refuse_nan(wrong: NDArray[np.bool_], batch: Targets) -> None:
    if wrong.any():
        raise TrainingError(
            f"user {batch.users[wrong][0]}: {int(wrong.sum())} of {len(batch)} users of a batch have NaN scores; train "
            "the model again with a smaller learning rate"
        )


def _check_lists(top: TopK, batch: Targets, n_items: int, k: int) -> None:
    """A list that repeats an item or is out of order would make ranks that are better than the truth."""
    for user, problem in _problems(top, batch, n_items, k):
        raise TrainingError(f"user {user}: the recommended list {problem}; the recommender's `recommend` is at fault")


def _problems(top: TopK, batch: Targets, n_items: int, k: int) -> Iterator[tuple[int, str]]:
    if top.items.shape != (len(batch), k) or top.scores.shape != (len(batch), k):
        yield int(batch.users[0]), f"has shape {top.items.shape}, expected {(len(batch), k)}"
        return
    filled = top.items >= 0
    ordered = np.sort(top.items, axis=1)
    with np.errstate(invalid="ignore"):
        checks = {
            "has NaN scores": np.isnan(top.scores).any(1),
            f"names items beyond the catalogue of {n_items}": (top.items >= n_items).any(1),
            "holds an item twice": ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(1),
            "is not ordered by score": (top.scores[:, 1:] > top.scores[:, :-1]).any(1),
            "gives a score to a missing item": (~filled & (top.scores != -np.inf)).any(1),
        }
    for problem, wrong in checks.items():
        if wrong.any():
            yield int(batch.users[wrong][0]), problem
