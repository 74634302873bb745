"""The stage `finetune`: train on histories as they are or on labelled rows, from pre-trained weights or random ones."""

from pathlib import Path

from modalrec.run import Run
from modalrec.stages.train import TrainConfig, train

Config = TrainConfig


def finetune(
    dataset: Path,
    model: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    pretrained: Path | None = None,
    *,
    config: TrainConfig,
    run: Run,
) -> dict[str, float]:
    """Trains on histories as they are, or on labelled rows; keeps the weights of the best epoch on the validation part.

    Args:
        dataset: The dataset.
        model: Where to write the model.
        codes: Semantic IDs or code groups, for models that need them.
        embeddings: Items' vectors, for models that need them.
        text_embeddings: Vectors of the items' texts, for models that tell modalities apart.
        image_embeddings: Vectors of the items' pictures, for the same.
        pretrained: The model to start from, perhaps one of another dataset with codes of the same codebook; without it
            training starts from random weights.
        config: Model and training.
        run: The stage's run.

    Returns:
        Epochs, the best one, its validation metrics, the number of parameters.

    Raises:
        ConfigError, DataError, ArtifactError: As of `modalrec.stages.train.train`.
        TrainingError: The training diverged, or memory does not suffice.
    """
    given = {
        "dataset": dataset,
        "codes": codes,
        "embeddings": embeddings,
        "text_embeddings": text_embeddings,
        "image_embeddings": image_embeddings,
        "pretrained": pretrained,
    }
    return train(model, given, augment=False, config=config, run=run)
