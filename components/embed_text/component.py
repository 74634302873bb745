"""`embed_text`: item texts into vectors."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecDataset, ModalrecEmbeddings
from components.stage import stage


@stage
def embed_text(
    dataset: Input[ModalrecDataset],
    config: str,
    seed: int,
    part: int,
    text_embeddings: Output[ModalrecEmbeddings],
    metrics: Output[Metrics],
) -> None:
    """Turn item texts into vectors.

    Args:
        dataset: The dataset whose items are encoded.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        part: Number of the part of the items that is encoded, from 0.
        text_embeddings: One vector per item, or a list of vectors; an item without text is marked so.
        metrics: How many items have a text.
    """
    from components.execute import execute

    execute(
        "embed_text",
        config,
        seed,
        inputs={"dataset": dataset},
        outputs={"text_embeddings": text_embeddings},
        metrics=metrics,
        settings={"part": part},
    )
