"""One row of the results of models of ratings: the predictions for the test rows, measured."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN
from modalrec.evaluation.click_results import parts
from modalrec.evaluation.metrics import Interval
from modalrec.evaluation.rating import by_activity, errors, rmse_interval
from modalrec.evaluation.results import HEADLINE

# E measured rows.

RATED = ("rmse", "mae", "mse")
"""The metrics of every row; the lower the better."""
CUTS = (1, 10, 50, 200)
"""Train rows of a user, or of an item, where groups of activity begin."""


class Group(NamedTuple):
    """Some of the rows: how many, their RMSE, and the mean of their predictions."""

    rows: int
    rmse: float
    predicted: float


@dataclass(frozen=True)
class RatingResult:
    """What was measured of one model or baseline.

    Attributes:
        role: model, an ablation's edge, or a baseline.
        metrics: By bare name.
        interval: 95 % interval of the RMSE over users.
        parts: Rows of known and new users, of warm and cold items.
        users: Rows by the activity of their user, `10_to_49` for as many train rows.
        items: Rows by that of their item.
        ratings: Rows by their rating, such as `4.5`.
    """

    role: str
    metrics: dict[str, float]
    interval: Interval
    parts: dict[str, Group] = field(default_factory=dict)
    users: dict[str, Group] = field(default_factory=dict)
    items: dict[str, Group] = field(default_factory=dict)
    ratings: dict[str, Group] = field(default_factory=dict)

    def flat(self) -> dict[str, float]:
        """All finite numbers by full name."""
        numbers = self.metrics | {"rmse_low": self.interval.low, "rmse_high": self.interval.high}
        groups = dict(self.parts)
        groups |= {f"users_{name}": one for name, one in self.users.items()}
        groups |= {f"items_{name}": one for name, one in self.items.items()}
        groups |= {f"rating_{name.replace('.', '_')}": one for name, one in self.ratings.items()}
        for name, one in groups.items():
            numbers[f"{name}_rmse"] = one.rmse
            if self.role == HEADLINE:
                numbers[f"{name}_rows"] = one.rows
        prefix = "" if self.role == HEADLINE else f"{self.role}_"
        return {prefix + name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def summarise_ratings(
    role: str,
    rows: Rows,
    places: NDArray[np.int64],
    predicted_E: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    samples: int,
) -> RatingResult:
    """Measures the predictions for the rows at these places, which have ratings."""
    assert rows.ratings is not None  # noqa: S101 (`Rows.of` has refused)
    users, items = np.asarray(rows.users[places]), np.asarray(rows.items[places])
    ratings = np.asarray(rows.ratings[places])
    train = rows.split == TRAIN
    of_user = np.bincount(rows.users[train], minlength=rows.n_users)[users]
    of_item = np.bincount(rows.items[train], minlength=rows.n_items)[items]
    by_rating = {f"{height:g}": ratings == height for height in np.unique(ratings)}

    def grouped(groups: dict[str, NDArray[np.bool_]]) -> dict[str, Group]:
        return {
            name: Group(int(of.sum()), errors(ratings[of], predicted_E[of])["rmse"], float(predicted_E[of].mean()))
            for name, of in groups.items()
            if of.any()
        }

    return RatingResult(
        role,
        errors(ratings, predicted_E),
        rmse_interval(users, ratings, predicted_E, rng, samples),
        grouped(parts(rows, places)),
        grouped(by_activity(of_user, CUTS)),
        grouped(by_activity(of_item, CUTS)),
        # Data with other scales than stars may have as many heights as rows.
        grouped(by_rating) if len(by_rating) <= 20 else {},
    )
