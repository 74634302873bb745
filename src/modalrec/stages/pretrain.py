"""The stage `pretrain`: train a recommender on perturbed histories, as a start for `finetune`."""

from pathlib import Path

from modalrec.run import Run
from modalrec.stages.train import TrainConfig, train

Config = TrainConfig


def pretrain(
    dataset: Path,
    pretrained: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    *,
    config: TrainConfig,
    run: Run,
) -> dict[str, float]:
    """Trains on histories that are cut and thinned at random, so that later training starts from robust weights.

    Args:
        dataset: The dataset.
        pretrained: Where to write the model.
        codes: Semantic IDs, for models that need them.
        embeddings: Items' vectors, for models that need them.
        text_embeddings: Vectors of the items' texts, for models that tell modalities apart.
        image_embeddings: Vectors of the items' pictures, for the same.
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
    }
    return train(pretrained, given, augment=True, config=config, run=run)
