"""Models of rows as rankers: among the items new to a user, at which rank is the one that the user liked?

A target is a user's last liked row of the test part. All items are ranked at its time, except those of the user's rows
for training and validation and of its earlier test rows; nothing is sampled, and ties count against the target.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modalrec.data.rows import Rows
from modalrec.data.splits import TEST, TRAIN, VALID
from modalrec.evaluation.metrics import gains_at
from modalrec.evaluation.ranking import Ranking
from modalrec.recommenders import TopK
from modalrec.run import Run

# U targets, N items, k length of the lists.

Scores = Callable[[int], NDArray[np.float32]]
"""From the place of a row to scores [N] of its user and every item, at its time."""


def last_liked(rows: Rows, users: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The targets' places [U], ascending: the last liked test row of each user, of at most so many users."""
    liked = np.flatnonzero((rows.split == TEST) & (rows.labels == 1))
    last = liked[np.append(rows.users[liked][1:] != rows.users[liked][:-1], True)] if len(liked) else liked
    return last if len(last) <= users else np.sort(rng.choice(last, users, replace=False))


def rank_rows(score: Scores, rows: Rows, places: NDArray[np.int64], k: int, run: Run, what: str) -> Ranking:
    """Ranks the items of the rows at these places.

    Args:
        score: Scores the catalogue.
        rows: All rows, sorted by user and time.
        places: [U] from `last_liked`.
        k: Length of the lists that are kept.
        run: Progress.
        what: The label of the progress line.
    """
    greater, equal = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
    items, scores = np.full((len(places), k), -1, np.int64), np.full((len(places), k), -np.inf, np.float32)
    starts = np.searchsorted(rows.users, rows.users[places])
    ends = np.searchsorted(rows.users, rows.users[places], side="right")
    for row, place in enumerate(run.track(places, what)):
        own = np.arange(starts[row], ends[row])
        known = own[(rows.split[own] == TRAIN) | (rows.split[own] == VALID) | (own < place)]
        scores_N = score(int(place)).astype(np.float32, copy=True)
        target = scores_N[rows.items[place]]
        scores_N[rows.items[known]] = -np.inf
        scores_N[rows.items[place]] = target
        greater[row], equal[row] = (scores_N > target).sum(), (scores_N == target).sum() - 1
        best = np.argsort(-scores_N, kind="stable")[:k]
        best = best[scores_N[best] > -np.inf]
        items[row, : len(best)], scores[row, : len(best)] = best, scores_N[best]
    positions = (places - starts).astype(np.int32)
    top = TopK(items, scores)
    return Ranking(rows.users[places], rows.items[places], positions, greater, equal, top, rows.n_items, run.seed)


def measure_ranking(
    ranking: Ranking, groups: dict[str, NDArray[np.bool_]], cutoffs: tuple[int, ...]
) -> dict[str, float]:
    """recall, ndcg and mrr at the cut-offs over all targets, and recall and ndcg of each group of them."""
    found: dict[str, float] = {}
    for k in cutoffs:
        gains = gains_at(ranking, k)
        found |= {f"{name}_{k}": float(values.mean()) for name, values in gains.items() if len(values)}
        for group, of in groups.items():
            if of.any():
                found |= {f"{group}_{name}_{k}": float(gains[name][of].mean()) for name in ("recall", "ndcg")}
    return found
