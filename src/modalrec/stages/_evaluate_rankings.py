"""Models of rows that can be asked about any item, and baselines beside them, as rankers of the whole catalogue."""

import numpy as np
from numpy.typing import NDArray

from modalrec.data.rows import Rows
from modalrec.data.splits import TRAIN
from modalrec.evaluation.click_results import parts
from modalrec.evaluation.predictions import predict_catalogue
from modalrec.evaluation.rating_baselines import RatingBaseline
from modalrec.evaluation.results import HEADLINE
from modalrec.evaluation.row_ranking import Scores, last_liked, measure_ranking, rank_rows
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.stages._evaluate_config import Config


class Rankings:
    """What each ranker made of the same targets; nothing where the headline cannot be asked about any item.

    Args:
        rows: All rows.
        config: The stage's configuration.
        with_moments: The rows have the fields of `modalrec.data.moments`.
        run: The stage's run.

    Attributes:
        results: Metrics by role.
    """

    def __init__(self, rows: Rows, config: Config, with_moments: bool, run: Run) -> None:
        self.rows, self.config, self.run = rows, config, run
        self.moments = rows.moments() if with_moments else None
        self.places = last_liked(rows, config.rows.ranked_users, run.rng("ranked_users"))
        self.results: dict[str, dict[str, float]] = {}

    def add_model(self, role: str, model: RowModel) -> None:
        """Ranks by a model; popularity stands beside the headline."""
        if not model.ranks or not len(self.places):
            return
        self._rank(role, lambda place: predict_catalogue(model, self.rows, place, self.moments))
        if role == HEADLINE:
            rows = self.rows
            counts_N = np.bincount(rows.items[rows.split == TRAIN], minlength=rows.n_items).astype(np.float32)
            self._rank("popularity", lambda _: counts_N)

    def add_baseline(self, role: str, baseline: RatingBaseline) -> None:
        """Ranks by a baseline's predictions for the user and every item."""
        if HEADLINE not in self.results:
            return
        items = np.arange(self.rows.n_items, dtype=np.int32)

        def score(place: int) -> NDArray[np.float32]:
            times = None if self.rows.timestamps is None else np.full(len(items), self.rows.timestamps[place])
            return baseline.predict(np.full(len(items), self.rows.users[place]), items, times)

        self._rank(role, score)

    def flat(self) -> dict[str, float]:
        """All numbers by full name, and how many users were ranked."""
        found = {
            ("" if role == HEADLINE else f"{role}_") + name: value
            for role, metrics in self.results.items()
            for name, value in metrics.items()
        }
        return found | ({"ranked_users": float(len(self.places))} if self.results else {})

    def _rank(self, role: str, score: Scores) -> None:
        what = f"ranking: {role.replace('_', ' ')}"
        ranking = rank_rows(score, self.rows, self.places, self.config.list_length, self.run, what)
        self.results[role] = measure_ranking(ranking, parts(self.rows, self.places), self.config.cutoffs)
