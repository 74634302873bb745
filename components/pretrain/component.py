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
    """
    from components.execute import execute

    execute(
        "pretrain",
        config,
        seed,
        inputs={"dataset": dataset, "codes": codes, "embeddings": embeddings},
        outputs={"pretrained": pretrained},
        metrics=metrics,
    )
