"""What `compare` can be told, and what the recipe of that name trains."""

from typing import Any

from pydantic import Field

from modalrec.config import Config as BaseConfig


class Config(BaseConfig):
    """Configuration of `compare`.

    Attributes:
        names: What the evaluations are called, in their order; by default after their models, with the settings that
            tell equal ones apart. The recipe puts the names of its recommenders here.
        metric: What the rows are ordered by and compared in, at the cut-off `k`.
        k: The cut-off.
        bootstrap_samples: Resamples of the users behind every interval.
        recommenders: Of the recipe `compare`: from name to what differs from the settings of fuse, quantize, finetune
            and evaluate, by stage.
    """

    names: tuple[str, ...] = ()
    metric: str = Field("ndcg", pattern="^(recall|ndcg|mrr)$")
    k: int = Field(10, ge=1)
    bootstrap_samples: int = Field(2000, ge=100)
    recommenders: dict[str, dict[str, dict[str, Any]]] = {}
