"""`fuse`: text and image vectors into one vector per item."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecDataset, ModalrecEmbeddings
from components.stage import stage


@stage
def fuse(
    config: str,
    seed: int,
    embeddings: Output[ModalrecEmbeddings],
    metrics: Output[Metrics],
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
    dataset: Input[ModalrecDataset] = None,
) -> None:
    """Join text and image vectors.

    Args:
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        embeddings: One fused vector per item.
        metrics: How many items have both modalities, one, or none.
        text_embeddings: Vectors of the texts; may be left out.
        image_embeddings: Vectors of the pictures; may be left out.
        dataset: Says which items a fuser that is trained may learn from.
    """
    from components.execute import execute

    execute(
        "fuse",
        config,
        seed,
        inputs={"text_embeddings": text_embeddings, "image_embeddings": image_embeddings, "dataset": dataset},
        outputs={"embeddings": embeddings},
        metrics=metrics,
    )
