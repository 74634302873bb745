"""What `pretrain` and `finetune` share: building a model from the edges, training it, writing its folder."""

from collections.abc import Mapping
from pathlib import Path

import torch

from modalrec.artifacts import Manifest, read_manifest, write_artifact
from modalrec.artifacts.files import write_json
from modalrec.errors import ConfigError
from modalrec.plugins import discover
from modalrec.recommenders import save_recommender
from modalrec.run import Run
from modalrec.stages import EDGES, _train_histories, _train_rows
from modalrec.stages._encoding import keep_encoding
from modalrec.stages._train_config import TrainConfig
from modalrec.stages._train_given import Given
from modalrec.stages._transfer import identities
from modalrec.training.checkpoint import fingerprint
from modalrec.training.loop import TrainingConfig, Validate, fit

__all__ = ["TrainConfig", "train"]


def train(
    folder: Path,
    given: Mapping[str, Path | None],
    *,
    augment: bool,
    config: TrainConfig,
    run: Run,
) -> dict[str, float]:
    """Trains a recommender and writes its folder: weights, configuration, item space, `curves.json`.

    Args:
        folder: Where to write.
        given: From edge to input: `dataset`; codes and vectors, left alone by a model that does not need them; and
            `pretrained`, a model with the same settings that training starts from, of this dataset or another (see
            `_transfer.start_from`), without which it starts from random weights.
        augment: Train on the model's perturbed histories.
        config: The stage's configuration.
        run: The stage's run.

    Returns:
        Epochs, the best one, its validation metrics, the number of parameters.

    Raises:
        ConfigError: The model needs an edge that is not given, or differs from the one it starts from.
        DataError: The split has nothing to train on.
        ArtifactError: The codes are not of this dataset's items, or the start was trained with codes or vectors of
            another meaning, or on events that this dataset tests.
        TrainingError: The training diverged, or memory does not suffice.
    """
    torch.manual_seed(run.seed)
    folders = {edge: place for edge, place in given.items() if place is not None}
    read = {edge: read_manifest(place, EDGES[edge]) for edge, place in folders.items()}
    dataset, start = folders.pop("dataset"), folders.pop("pretrained", None)
    training, split = _possible(config, read["dataset"], run)
    used = discover("recommenders")[config.recommender.name].edges(config.recommender)
    manifests = {edge: found for edge, found in read.items() if edge in used | {"dataset", "pretrained"}}
    _refuse_missing(config, used - manifests.keys())
    about = {edge: folders[edge] for edge in used}
    found = Given(dataset, split, about, start, manifests, augment, config, training, run)
    prepare = _train_rows.prepare if config.learns_from_rows else _train_histories.prepare
    model, batches, validate, taken = prepare(found)
    with write_artifact(folder, "model", stage=run.stage, config=config, seed=run.seed, inputs=manifests) as work:
        speed: dict[str, float] = {}
        curves = fit(
            model,
            batches,
            config=training,
            run=run,
            fingerprint=fingerprint(run.stage, config, run.seed, manifests),
            validate=_shown(validate, config.monitor, run),
            monitor=config.monitor,
            speed=speed,
        )
        save_recommender(work.folder, model)
        keep_encoding(work.folder, folders, read, used)
        write_json(work.folder / "curves.json", curves)
        best = max(curves, key=lambda entry: entry.get(config.monitor, entry["epoch"]), default={})
        work.statistics |= {f"valid_{name}": value for name, value in best.items() if "_" in name or name == "auc"}
        work.statistics |= {"epochs": len(curves), "best_epoch": best.get("epoch", 0)}
        work.statistics["parameters"] = sum(parameter.numel() for parameter in model.parameters())
        work.statistics |= taken
        numbers = {**work.statistics, **speed}
        work.statistics |= identities(manifests)
        work.cost |= speed
    return numbers


def _possible(config: TrainConfig, dataset: Manifest, run: Run) -> tuple[TrainingConfig, str]:
    """The training and the split, or no epochs on another split where the dataset lacks the one asked for."""
    splits = dataset.statistics.get("splits", [config.split])
    if config.split in splits or not config.skip_without_split:
        return config.training, config.split
    run.say(f"nothing is trained: the dataset has no {config.split} split")
    return config.training.model_copy(update={"epochs": 0}), splits[0]


def _shown(validate: Validate | None, monitor: str, run: Run) -> Validate | None:
    """Prints what is monitored after each epoch too: a search may end a trial by it."""
    if validate is None:
        return None

    def measured() -> dict[str, float]:
        found = validate()
        run.metrics(**{f"valid_{monitor}": found[monitor]})
        return found

    return measured


def _refuse_missing(config: TrainConfig, missing: frozenset[str]) -> None:
    if missing:
        raise ConfigError(
            f"recommender {config.recommender.name}: needs {', '.join(sorted(missing))}; give --{min(missing)}"
        )
