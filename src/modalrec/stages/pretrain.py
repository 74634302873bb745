"""The stage `pretrain`: train a recommender on perturbed histories, as a start for `finetune`."""

from pathlib import Path

from modalrec.artifacts import read_manifest
from modalrec.run import Run
from modalrec.stages.train import TrainConfig, train

Config = TrainConfig


def pretrain(
    dataset: Path,
    pretrained: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
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
        config: Model and training.
        run: The stage's run.

    Returns:
        Epochs, the best one, its validation metrics, the number of parameters.
    """
    manifests = {"dataset": read_manifest(dataset, "dataset")}
    if codes is not None:
        manifests["codes"] = read_manifest(codes, "codes")
    if embeddings is not None:
        manifests["embeddings"] = read_manifest(embeddings, "embeddings")
    return train(pretrained, dataset, codes, embeddings, None, manifests, augment=True, config=config, run=run)
