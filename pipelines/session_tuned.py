"""The recipe `session_tuned`: `session` with a search for the settings of `finetune` before it.

`python -m pipelines run session --set tune.trials=20` runs it. It is a pipeline of its own, since a branch inside
`session` would show all later steps twice to those who do not search.
"""

from typing import Any

from components.tune.search import choose
from pipelines import session

LAPTOP_PRESET = session.LAPTOP_PRESET
STAGES = [*session.STAGES, "tune"]

pipeline = session.recipe(
    "session-tuned",
    "Sessions, tuned",
    "Search the settings of GRU4Rec on the validation sessions, train it with the best, and rank every next item of "
    "the test sessions beside baselines.",
    STAGES,
)


def check(arguments: dict[str, Any]) -> None:
    """Checks the arguments of a run before anything starts.

    Args:
        arguments: The pipeline's arguments.

    Raises:
        ConfigError: See `session.check`; or no experiment of `manifests/katib` fits the recommender.
    """
    choose(session.check(arguments, STAGES))
