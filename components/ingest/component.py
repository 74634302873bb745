"""`ingest`: raw files into a dataset."""

from kfp.dsl import Metrics, Output

from components.artifacts import ModalrecDataset
from components.stage import stage


@stage
def ingest(source: str, config: str, seed: int, dataset: Output[ModalrecDataset], metrics: Output[Metrics]) -> None:
    """Read raw files into a checked, split dataset.

    Args:
        source: The raw files: an s3:// URI, or a folder inside the container.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        dataset: Items, users, interactions with their splits, and pictures.
        metrics: What was kept and what was dropped.
    """
    from components.execute import execute

    execute("ingest", config, seed, inputs={"source": source}, outputs={"dataset": dataset}, metrics=metrics)
