"""How well probabilities of clicks are ordered, and how true they are.

AUC is exact: equal scores count one half, and nothing is sampled or binned. Over all rows it also rewards telling users
apart, of whom some like more; `user_auc` compares only within a user.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modalrec.evaluation.metrics import Interval

# E rows, G groups of equal scores, U users, S resamples.

CLIP = 1e-7
"""A probability is at least this far from 0 and 1 in the log loss."""
Labels = NDArray[np.int8]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Bin:
    """Rows of about the same probability.

    Attributes:
        predicted: Mean of the probabilities.
        observed: Share of clicks.
        rows: Number of rows.
    """

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True)
class Roc:
    """Points of the receiver operating characteristic, from the highest threshold down.

    Attributes:
        false_positives: Share of the rows without a click that score at least the threshold.
        true_positives: Share of those with one.
        thresholds: The scores.
    """

    false_positives: list[float]
    true_positives: list[float]
    thresholds: list[float]


def auc(labels_E: Labels, scores_E: Scores) -> float:
    """The probability that a row with a click scores higher than one without, ties counting half; NaN without both."""
    below, equal, positive, negative = _groups(labels_E, scores_E)
    if not positive.sum() or not negative.sum():
        return float("nan")
    # Twice the wins is an integer: no rounding before the last division.
    return float((positive * (2 * below + equal)).sum() / (2 * int(positive.sum()) * int(negative.sum())))


def user_auc(users_E: NDArray[np.int32], labels_E: Labels, scores_E: Scores) -> tuple[float, int]:
    """The mean of the users' own AUCs, weighted by their rows (Zhou et al. 2018, arXiv 1706.06978, equation 7).

    Returns:
        The mean, NaN without any, and the number of users with rows of both kinds; the others have no AUC.
    """
    order = np.lexsort((scores_E, users_E))
    users, scores, labels = users_E[order], scores_E[order], labels_E[order].astype(np.int64)
    new_user = _changes(users)
    new_group = new_user | _changes(scores)
    starts = np.flatnonzero(new_group)
    user_of = np.cumsum(new_user)[starts] - 1
    positive = np.add.reduceat(labels, starts) if len(starts) else labels
    negative = np.diff(np.append(starts, len(labels))) - positive
    below = np.cumsum(negative) - negative
    first = np.flatnonzero(new_user[starts])
    below -= np.repeat(below[first], np.diff(np.append(first, len(starts))))
    wins_U, positive_U, negative_U = (
        np.bincount(user_of, values, minlength=len(first))
        for values in (positive * (2 * below + negative), positive, negative)
    )
    both = (positive_U > 0) & (negative_U > 0)
    if not both.any():
        return float("nan"), 0
    own = wins_U[both] / (2 * positive_U[both] * negative_U[both])
    return float(np.average(own, weights=(positive_U + negative_U)[both])), int(both.sum())


def log_loss(labels_E: Labels, probabilities_E: Scores) -> float:
    """The mean negative log likelihood."""
    clipped_E = np.clip(probabilities_E.astype(np.float64), CLIP, 1 - CLIP)
    return float(-np.log(np.where(labels_E == 1, clipped_E, 1 - clipped_E)).mean()) if len(labels_E) else float("nan")


def precision(labels_E: Labels, probabilities_E: Scores, threshold: float = 0.5) -> float:
    """The share of clicks among the rows that are given at least the threshold; NaN without any."""
    chosen = probabilities_E >= threshold
    return float((labels_E[chosen] == 1).mean()) if chosen.any() else float("nan")


def calibration(labels_E: Labels, probabilities_E: Scores, bins: int = 10) -> list[Bin]:
    """The calibration curve, in bins of about as many rows each; equal probabilities share a bin."""
    cuts = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.unique(np.quantile(probabilities_E, cuts)) if len(labels_E) else np.zeros(0)
    places = np.searchsorted(edges, probabilities_E, side="right")
    found = [np.flatnonzero(places == place) for place in range(len(edges) + 1)]
    return [
        Bin(float(probabilities_E[rows].mean(dtype=np.float64)), float(labels_E[rows].mean()), len(rows))
        for rows in found
        if len(rows)
    ]


def calibration_error(curve: list[Bin]) -> float:
    """The expected calibration error: the mean distance of probability and share of clicks, over rows."""
    total = sum(one.rows for one in curve)
    return sum(abs(one.predicted - one.observed) * one.rows for one in curve) / total if total else float("nan")


def roc(labels_E: Labels, scores_E: Scores, points: int = 200) -> Roc:
    """The curve, thinned to at most so many points and its two ends."""
    order = np.argsort(-scores_E, kind="stable")
    scores, labels = scores_E[order], labels_E[order].astype(np.int64)
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    if len(ends) > points:
        ends = np.unique(ends[np.linspace(0, len(ends) - 1, points).astype(np.int64)])
    positive = np.cumsum(labels)[ends]
    negative = ends + 1 - positive
    highest = [float(scores[0])] if len(scores) else []
    return Roc(
        [0.0, *(negative / max(1, int((labels == 0).sum()))).tolist()],
        [0.0, *(positive / max(1, int(labels.sum()))).tolist()],
        [*highest, *scores[ends].astype(float).tolist()],
    )


def auc_interval(
    users_E: NDArray[np.int32], labels_E: Labels, scores_E: Scores, rng: np.random.Generator, samples: int
) -> Interval:
    """The 95 % interval of the AUC over users; NaN where no resample has rows of both kinds."""
    drawn = resampled_aucs(users_E, labels_E, scores_E, rng, samples)
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(low), float(high))


def resampled_aucs(
    users_E: NDArray[np.int32], labels_E: Labels, scores_E: Scores, rng: np.random.Generator, samples: int
) -> NDArray[np.float64]:
    """The AUC over users who are resampled whole, since rows of one are not independent.

    Equal users and equal states of the generator draw the same, so that two models can be compared draw by draw.

    Returns:
        [S], NaN where a resample lacks one of the labels; empty without rows.
    """
    users = np.unique(users_E, return_inverse=True)[1]
    n_users = int(users.max(initial=-1)) + 1
    order = np.argsort(scores_E, kind="stable")
    group = np.cumsum(_changes(scores_E[order])) - 1
    positive, users = labels_E[order] == 1, users[order]
    drawn = np.full(samples if n_users else 0, np.nan)
    for sample in range(len(drawn)):
        weights = np.bincount(rng.integers(n_users, size=n_users), minlength=n_users)[users].astype(np.float64)
        positive_G = np.bincount(group, weights * positive)
        negative_G = np.bincount(group, weights * ~positive)
        below_G = np.cumsum(negative_G) - negative_G
        pairs = positive_G.sum() * negative_G.sum()
        if pairs:
            drawn[sample] = (positive_G * (below_G + negative_G / 2)).sum() / pairs
    return drawn


def _groups(labels_E: Labels, scores_E: Scores) -> tuple[NDArray[np.int64], ...]:
    """[G] each: rows without a click below the group, in it, with one, without one."""
    group = np.unique(scores_E, return_inverse=True)[1]
    positive = np.bincount(group, labels_E == 1).astype(np.int64)
    negative = np.bincount(group, labels_E != 1).astype(np.int64)
    return np.cumsum(negative) - negative, negative, positive, negative


def _changes(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    return np.append(True, values[1:] != values[:-1])[: len(values)]
