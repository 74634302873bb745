"""`embed_image`: item pictures into vectors."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecDataset, ModalrecEmbeddings
from components.stage import stage


@stage
def embed_image(
    dataset: Input[ModalrecDataset],
    config: str,
    seed: int,
    part: int,
    image_embeddings: Output[ModalrecEmbeddings],
    metrics: Output[Metrics],
) -> None:
    """Turn item pictures into vectors.

    Args:
        dataset: The dataset whose items are encoded.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        part: Number of the part of the items that is encoded, from 0.
        image_embeddings: One vector per item, or a list of vectors; an item without a picture is marked so.
        metrics: How many items have a picture.
    """
    from components.execute import execute

    execute(
        "embed_image",
        config,
        seed,
        inputs={"dataset": dataset},
        outputs={"image_embeddings": image_embeddings},
        metrics=metrics,
        settings={"part": part},
    )
