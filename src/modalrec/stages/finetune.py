"""The stage `finetune`: train a recommender on histories as they are, from pre-trained weights or from random ones."""

from pathlib import Path

from modalrec.artifacts import read_manifest
from modalrec.run import Run
from modalrec.stages.train import TrainConfig, train

Config = TrainConfig


def finetune(
    dataset: Path,
    model: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
    pretrained: Path | None = None,
    *,
    config: TrainConfig,
    run: Run,
) -> dict[str, float]:
    """Trains on histories as they are and keeps the weights of the best epoch on the validation part.

    Args:
        dataset: The dataset.
        model: Where to write the model.
        codes: Semantic IDs, for models that need them.
        embeddings: Items' vectors, for models that need them.
        pretrained: The model to start from, perhaps one of another dataset with codes of the same codebook; without it
            training starts from random weights.
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
    if pretrained is not None:
        manifests["pretrained"] = read_manifest(pretrained, "model")
    return train(model, dataset, codes, embeddings, pretrained, manifests, augment=False, config=config, run=run)
