"""What `evaluate` can be told."""

import difflib
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from modalrec.config import Config as BaseConfig
from modalrec.evaluation.click_results import MEASURED
from modalrec.evaluation.ranking import TieMode
from modalrec.evaluation.rating_results import RATED

Baseline = Literal["popularity", "item_knn", "content_nn", "item_knn_content"]
AVERAGED = ("recall", "ndcg", "mrr")


class RowsEvaluation(BaseConfig):
    """How models of labelled rows are measured.

    Attributes:
        bins: Of the calibration curve.
        bootstrap_samples: Resamples of the users behind the interval of the AUC, or of the RMSE.
        ranked_users: Of a model that can be asked about any item, rank the whole catalogue for so many users with a
            liked test row, drawn at random; 0 for none.
        prediction_columns: Columns of `prediction.csv` beside ID, all with the prediction; what the challenge of
            MicroLens asks for by default. It is written where test rows have hidden labels.
    """

    bins: int = Field(10, ge=2, le=100)
    bootstrap_samples: int = Field(200, ge=20)
    ranked_users: int = Field(1000, ge=0)
    prediction_columns: tuple[str, ...] = Field(("Task1&2",), min_length=1)


class Config(BaseConfig):
    """Configuration of `evaluate`.

    Attributes:
        split: The split of the headline; the control `temporal` is always measured on the temporal one.
        targets: Rank each user's last test event, or every one: each next item of a session.
        unseen_items: Keep test events of items without a train event as targets that no model can know, or drop them
            before anything is ranked, and these items from the candidates, as GRU4Rec's protocol does.
        cold_below: Items with fewer train events are cold: 1 for those without any. Metrics are given of warm and of
            cold targets too.
        test_sets: Further test parts of the same split for the model and the baselines, such as sessions_day2; "all"
            for every one that the dataset has.
        mask_seen: Leave the items of a user's history out of the ranking; false where people come back to items.
        cutoffs: The k of recall_k, ndcg_k, mrr_k and coverage_k.
        tie_mode: The place of a target among equal scores: last, first, in the middle, or at random.
        primary_metric: What a search goes by, such as mrr_20: printed as `primary_metric` too.
        list_length: Length of the top-k lists that are kept; at least the largest cut-off.
        batch_size: Histories at a time.
        tile: Items at a time, for models that score the whole catalogue.
        exhaustive: Rank models that can score every item by all scores instead of by their lists.
        beam_sample: Users whose lists are compared with exhaustive scores; 0 for none.
        baselines: What to put beside the model; those of content need the items' vectors and are left out without.
        bootstrap_samples: Resamples of the users behind every interval.
        ties: Fail if ties decide more than 0.1 % of the headline's recall (saturated scores), or only report it.
        gallery_users: Users shown in the report.
        rows: Of models of labelled rows, for which nothing else here but `split`, `primary_metric`, `cutoffs` and
            `list_length` counts.
    """

    split: Literal["leave_one_out", "cold_items", "temporal", "sessions", "given", "random", "folds", "new_items"] = (
        "leave_one_out"
    )
    targets: Literal["last", "every"] = "last"
    unseen_items: Literal["keep", "drop"] = "keep"
    cold_below: int = Field(1, ge=1)
    test_sets: tuple[str, ...] = ()
    mask_seen: bool = True
    cutoffs: tuple[int, ...] = (1, 5, 10, 20)
    tie_mode: TieMode = "conservative"
    primary_metric: str = ""
    list_length: int = Field(50, ge=1)
    batch_size: int = Field(256, ge=1)
    tile: int = Field(4096, ge=1)
    exhaustive: bool = False
    beam_sample: int = Field(100, ge=0)
    baselines: tuple[Baseline, ...] = get_args(Baseline)
    bootstrap_samples: int = Field(2000, ge=100)
    ties: Literal["fail", "report"] = "fail"
    gallery_users: int = Field(12, ge=0, le=30)
    rows: RowsEvaluation = RowsEvaluation()

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if not cutoffs or min(cutoffs) < 1:
            raise ValueError("give at least one cut-off, all of them 1 or more")
        return tuple(sorted(set(cutoffs)))

    @model_validator(mode="after")
    def _lists_are_long_enough(self) -> "Config":
        if max(self.cutoffs) > self.list_length:
            raise ValueError(f"list_length={self.list_length} is below the cut-off {max(self.cutoffs)}; raise it")
        return self

    @model_validator(mode="after")
    def _primary_metric_is_measured(self) -> "Config":
        known = [f"{name}_{k}" for name in (*AVERAGED, "coverage") for k in self.cutoffs]
        known += [*MEASURED, *RATED]
        if self.primary_metric and self.primary_metric not in known:
            near = difflib.get_close_matches(self.primary_metric, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"take one of {', '.join(known)}"
            raise ValueError(f"primary_metric={self.primary_metric} is not measured with these cutoffs; {meant}")
        return self
