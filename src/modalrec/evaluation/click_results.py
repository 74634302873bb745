"""One row of the results of models of clicks: the predictions for the test rows, measured."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN
from modalrec.evaluation.ctr import (
    Bin,
    Roc,
    auc,
    auc_interval,
    calibration,
    calibration_error,
    log_loss,
    precision,
    roc,
    user_auc,
)
from modalrec.evaluation.metrics import Interval
from modalrec.evaluation.results import HEADLINE

# E measured rows.

MEASURED = ("auc", "user_auc", "log_loss", "precision", "calibration_error")
"""The metrics of every row."""
PRIOR = 5.0
"""Rows of the average item that an item's own rate is smoothed with."""
SCORES_ONLY = {"popularity"}
"""Baselines that order rows and predict no probability."""


@dataclass(frozen=True)
class ClickResult:
    """What was measured of one model or baseline.

    Attributes:
        role: model, an ablation's edge, or a baseline.
        metrics: By bare name; of a baseline that predicts no probabilities only AUCs.
        interval: 95 % interval of the AUC over users.
        curve: The calibration curve, empty without probabilities.
        roc: The receiver operating characteristic.
        users: Users with rows of both kinds, over whom `user_auc` is the mean.
        parts: Number of rows and AUC by part of the rows, such as `new_users`.
    """

    role: str
    metrics: dict[str, float]
    interval: Interval
    curve: list[Bin]
    roc: Roc
    users: int
    parts: dict[str, tuple[int, float]] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """All finite numbers by full name."""
        numbers = self.metrics | {"auc_low": self.interval.low, "auc_high": self.interval.high}
        for part, (rows, found) in self.parts.items():
            numbers |= {f"{part}_auc": found}
            if self.role == HEADLINE:
                numbers |= {f"{part}_rows": rows}
        prefix = "" if self.role == HEADLINE else f"{self.role}_"
        return {prefix + name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def summarise_clicks(
    role: str,
    rows: Rows,
    places: NDArray[np.int64],
    predicted_E: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    samples: int,
    bins: int,
) -> ClickResult:
    """Measures the predictions for the rows at these places."""
    users, labels = np.asarray(rows.users[places]), np.asarray(rows.labels[places])
    within, both = user_auc(users, labels, predicted_E)
    metrics = {"auc": auc(labels, predicted_E), "user_auc": within}
    curve: list[Bin] = []
    if role not in SCORES_ONLY:
        curve = calibration(labels, predicted_E, bins)
        metrics |= {"log_loss": log_loss(labels, predicted_E), "calibration_error": calibration_error(curve)}
        metrics["precision"] = precision(labels, predicted_E)
        metrics["mean_prediction"] = float(predicted_E.mean(dtype=np.float64)) if len(predicted_E) else float("nan")
    return ClickResult(
        role,
        metrics,
        auc_interval(users, labels, predicted_E, rng, samples),
        curve,
        roc(labels, predicted_E),
        both,
        {name: (int(of.sum()), auc(labels[of], predicted_E[of])) for name, of in parts(rows, places).items()},
    )


def parts(rows: Rows, places: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Which rows [E] are of users and items with a train row, and which are not."""
    known, warm = rows.trained_users()[rows.users[places]], _targeted(rows)[rows.items[places]]
    return {"known_users": known, "new_users": ~known, "warm_items": warm, "cold_items": ~warm}


def baselines(rows: Rows, places: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Predictions [E] that need no training, counted in the train rows.

    `rate` is the share of clicks of all rows, `item_rate` that of the item's, smoothed by the former, `popularity` the
    number of the item's rows.
    """
    train = np.flatnonzero((rows.split == TRAIN) & (rows.labels >= 0))
    items, labels = rows.items[train], rows.labels[train]
    counts_N = np.bincount(items, minlength=rows.n_items)
    clicks_N = np.bincount(items, labels == 1, minlength=rows.n_items)
    rate = float(clicks_N.sum() / max(1, counts_N.sum()))
    rates_N = (clicks_N + PRIOR * rate) / (counts_N + PRIOR)
    asked = rows.items[places]
    return {
        "item_rate": rates_N[asked].astype(np.float32),
        "popularity": counts_N[asked].astype(np.float32),
        "rate": np.full(len(places), rate, np.float32),
    }


def _targeted(rows: Rows) -> NDArray[np.bool_]:
    """[N] items with a train row of their own."""
    return np.bincount(rows.items[rows.split == TRAIN], minlength=rows.n_items) > 0
