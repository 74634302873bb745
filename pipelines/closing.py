"""How every recipe ends: with a summary of the run, whatever became of its steps."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from kfp import dsl
from kfp.dsl import pipeline_context

from components.summarize.component import summarize
from pipelines.placement import on_cpu

TOLD = ("source", "preset", "settings", "seed")


def with_summary(recipe: Callable[..., None]) -> Callable[..., None]:
    """Puts the steps of a recipe under an exit handler; stands between `@dsl.pipeline` and the function.

    Args:
        recipe: The function, with the parameters `source`, `preset`, `settings` and `seed`.

    Returns:
        The same function with the handler.
    """

    @functools.wraps(recipe)
    def closed(*arguments: Any, **options: Any) -> None:
        given = inspect.signature(recipe).bind(*arguments, **options).arguments
        name = pipeline_context.Pipeline.get_default_pipeline().name
        task = on_cpu(summarize(recipe=name, **{parameter: given[parameter] for parameter in TOLD}))
        with dsl.ExitHandler(task.set_caching_options(False), name="steps"):
            recipe(*arguments, **options)

    return closed
