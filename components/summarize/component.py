"""`summarize`: what a run was asked for and how it ended; the last step of every pipeline, also of one that failed."""

from kfp.dsl import Markdown, Output, PipelineTaskFinalStatus

from components.stage import stage


@stage
def summarize(
    recipe: str,
    source: str,
    preset: str,
    settings: dict,
    seed: int,
    status: PipelineTaskFinalStatus,
    summary: Output[Markdown],
) -> None:
    """Write down what the run was asked for and how it ended.

    Args:
        recipe: Name of the recipe.
        source: Raw files of the run.
        preset: Set of settings that the run started from.
        settings: Settings over the preset's.
        seed: Seed of all random draws.
        status: How the steps ended, from Kubeflow.
        summary: All of it, with the version of the code.
    """
    from components.summary import write_summary

    write_summary(
        summary.path, recipe, {"source": source, "preset": preset, "settings": settings, "seed": seed}, vars(status)
    )
