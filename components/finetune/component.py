"""`finetune`: a recommender from histories as they are, or from labelled rows."""

from kfp.dsl import Input, Metrics, Output

from components.artifacts import ModalrecCodes, ModalrecDataset, ModalrecEmbeddings, ModalrecModel
from components.stage import stage


@stage
def finetune(
    dataset: Input[ModalrecDataset],
    config: str,
    seed: int,
    model: Output[ModalrecModel],
    metrics: Output[Metrics],
    codes: Input[ModalrecCodes] = None,
    embeddings: Input[ModalrecEmbeddings] = None,
    text_embeddings: Input[ModalrecEmbeddings] = None,
    image_embeddings: Input[ModalrecEmbeddings] = None,
    pretrained: Input[ModalrecModel] = None,
) -> None:
    """Train a recommender on histories as they are, or on labelled rows.

    Args:
        dataset: The histories.
        config: Configuration of the stage, as JSON.
        seed: Seed of all random draws.
        model: The model, with all it needs to serve.
        metrics: Losses and validation metrics of the kept epoch.
        codes: The items' semantic IDs or code groups, for models that use them.
        embeddings: The items' vectors, for models that use them.
        text_embeddings: The vectors of the items' texts, for models that tell modalities apart.
        image_embeddings: The vectors of the items' pictures, for the same.
        pretrained: The model to start from; without it training starts from random weights.
    """
    from components.execute import execute

    execute(
        "finetune",
        config,
        seed,
        inputs={
            "dataset": dataset,
            "codes": codes,
            "embeddings": embeddings,
            "text_embeddings": text_embeddings,
            "image_embeddings": image_embeddings,
            "pretrained": pretrained,
        },
        outputs={"model": model},
        metrics=metrics,
    )
