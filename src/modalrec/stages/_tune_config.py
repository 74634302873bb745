"""What the settings of a recipe say of tuning; a search itself is `modalrec.tuning`."""

from pydantic import Field

from modalrec.config import Config


class TuneConfig(Config):
    """A search before `finetune`, whose best parameters it then takes.

    Attributes:
        trials: How many.
        parallel: How many at a time; 0 for as many as the experiment says, on a laptop at most one a CPU.
        experiment: Name of a file in `manifests/katib`, without `.yaml`; empty for the one that fits the recommender.
    """

    trials: int = Field(20, ge=1)
    parallel: int = Field(0, ge=0)
    experiment: str = ""
