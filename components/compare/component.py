"""`compare`: evaluations of several recommenders side by side."""

from typing import List  # noqa: UP035  (Kubeflow reads this annotation, and knows it by this name)

from kfp.dsl import HTML, Artifact, Input, Markdown, Metrics, Output

from components.artifacts import ModalrecComparison, ModalrecDataset
from components.stage import stage


@stage
def compare(
    evaluations: Input[List[Artifact]],  # noqa: UP006  (Kubeflow's compiler does not find classes of our own in a list)
    dataset: Input[ModalrecDataset],
    config: str,
    seed: int,
    comparison: Output[ModalrecComparison],
    metrics: Output[Metrics],
    report: Output[HTML],
    summary: Output[Markdown],
) -> None:
    """Compare recommenders that were measured on the same targets: how sure, for whom, at what cost.

    Args:
        evaluations: What was measured of each.
        dataset: The dataset that all were measured on.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        comparison: Metrics of every recommender and baseline, and the report.
        metrics: The same metrics.
        report: The report as one HTML file.
        summary: The report in short.
    """
    from components.execute import execute_compare

    execute_compare(evaluations, dataset, config, seed, comparison, metrics, report, summary)
