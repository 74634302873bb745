"""`pretrain`: a recommender from perturbed histories."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEmbeddings, ModalrecModel
from components.stage import stage


@stage
def pretrain(
    dataset: Input[ModalrecDataset],
    config: str,
    seed: int,
    pretrained: Output[ModalrecModel],
    metrics: Output[Metrics],
    codes: Input[ModalrecCodes] = None,
    embeddings: Input[ModalrecEmbeddings] = None,
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
) -> None:
    """Train a recommender on perturbed histories.

    Args:
        dataset: The histories.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        pretrained: The model, for finetune to start from.
        metrics: Losses and validation metrics of the kept epoch.
        codes: The items' semantic IDs, for models that use them.
        embeddings: The items' vectors, for models that use them.
        text_embeddings: The vectors of the items' texts, for models that tell modalities apart.
        image_embeddings: The vectors of the items' pictures, for the same.
    """
    from components.execute import execute

    execute(
        "pretrain",
        config,
        seed,
        inputs={
            "dataset": dataset,
            "codes": codes,
            "embeddings": embeddings,
            "text_embeddings": text_embeddings,
            "image_embeddings": image_embeddings,
        },
        outputs={"pretrained": pretrained},
        metrics=metrics,
    )
