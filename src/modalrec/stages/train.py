"""What `pretrain` and `finetune` share: building a recommender from the edges, training it, writing its folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from modalrec.artifacts import Manifest, read_manifest, write_artifact
from modalrec.artifacts.files import write_json
from modalrec.config import Config
from modalrec.data.sequences import Sequences
from modalrec.data.splits import VALID
from modalrec.errors import ConfigError, DataError
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import rank
from modalrec.plugins import any_config, create, discover
from modalrec.recommenders import Recommender, save_recommender
from modalrec.recommenders.encoder_decoder import EncoderDecoderConfig
from modalrec.run import Run
from modalrec.stages import EDGES
from modalrec.stages._encoding import keep_encoding
from modalrec.stages._items import item_space
from modalrec.stages._transfer import identities, refuse_foreign, start_from
from modalrec.training.checkpoint import fingerprint
from modalrec.training.loop import TrainingConfig, Validate, fit

VALIDATION_LIST = 20
"""Length of the lists that are measured after each epoch."""


class TrainConfig(Config):
    """Configuration of `pretrain` and `finetune`.

    Attributes:
        recommender: The model.
        training: How to train it; the model decides the defaults.
        split: Whose train part to learn from, and whose validation part to stop by.
        fit_on: `train_and_valid` learns from both, without validation and for all epochs: the final model of a protocol
            whose settings were chosen before.
        targets: Rank each user's last event of the validation part, or every one: each next item of a session.
        unseen_items: What to do with validation events whose item has no train event: rank them, or drop them first.
        shuffle_histories: Destroy the order inside every history first: a control that shows what order is worth.
        monitor: The metric on the validation part whose best epoch is kept.
        mask_seen: Leave the items of a user's history out of the ranking that is monitored.
        validation_users: At most so many users are ranked after each epoch, the same ones each time.
        skip_without_split: Train nothing where the dataset lacks the split, since it has no times; for controls.
    """

    recommender: any_config("recommenders") = EncoderDecoderConfig()  # type: ignore[valid-type]
    training: TrainingConfig = TrainingConfig()
    split: Literal["leave_one_out", "cold_items", "temporal", "sessions"] = "leave_one_out"
    fit_on: Literal["train", "train_and_valid"] = "train"
    targets: Literal["last", "every"] = "last"
    unseen_items: Literal["keep", "drop"] = "keep"
    shuffle_histories: bool = False
    monitor: Literal["recall_10", "ndcg_10", "mrr_10", "recall_20", "ndcg_20", "mrr_20"] = "ndcg_10"
    mask_seen: bool = True
    validation_users: int = Field(5000, ge=1)
    skip_without_split: bool = False

    @classmethod
    def defaults(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The recommender's own training defaults over the general ones."""
        found = super().defaults(settings)
        model = discover("recommenders").get((settings.get("recommender") or {}).get("name", ""))
        return {**found, "training": {**found["training"], **model.training_defaults}} if model else found


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
    """
    torch.manual_seed(run.seed)
    folders = {edge: place for edge, place in given.items() if place is not None}
    manifests = {edge: read_manifest(place, EDGES[edge]) for edge, place in folders.items()}
    dataset, start = folders.pop("dataset"), folders.pop("pretrained", None)
    training, split = _possible(config, manifests["dataset"], run)
    sequences = Sequences.load(dataset, split)
    if config.fit_on == "train_and_valid":
        sequences = sequences.with_valid()
    if config.shuffle_histories:
        sequences = sequences.shuffled(run.rng("shuffle"))
    used = discover("recommenders")[config.recommender.name].edges(config.recommender)
    manifests = {edge: found for edge, found in manifests.items() if edge in used | {"dataset", "pretrained"}}
    _refuse_missing(config, used - manifests.keys())
    space = item_space(dataset, **{edge: folders[edge] for edge in used})
    model: Recommender = create("recommenders", config.recommender, space)
    taken: dict[str, int] = {}
    if start is not None:
        refuse_foreign(start, manifests, config, split)
        taken = start_from(model, start, manifests, run)
    model.observe(sequences.train())
    batches = model.batches(sequences.train(), training.batch_size, run.seed, augment)
    if training.epochs and not len(batches.plan(0)):
        raise DataError(f"{dataset}: no user has two train events in the split {config.split}; lower min_user_events")
    with write_artifact(folder, "model", stage=run.stage, config=config, seed=run.seed, inputs=manifests) as work:
        speed: dict[str, float] = {}
        curves = fit(
            model,
            batches,
            config=training,
            run=run,
            fingerprint=fingerprint(run.stage, config, run.seed, manifests),
            validate=_validation(model, sequences, config, run),
            monitor=config.monitor,
            speed=speed,
        )
        save_recommender(work.folder, model)
        keep_encoding(work.folder, folders, manifests)
        write_json(work.folder / "curves.json", curves)
        best = max(curves, key=lambda entry: entry.get(config.monitor, entry["epoch"]), default={})
        work.statistics |= {f"valid_{name}": value for name, value in best.items() if "_" in name}
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


def _refuse_missing(config: TrainConfig, missing: frozenset[str]) -> None:
    if missing:
        raise ConfigError(
            f"recommender {config.recommender.name}: needs {', '.join(sorted(missing))}; give --{min(missing)}"
        )


def _validation(model: Recommender, sequences: Sequences, config: TrainConfig, run: Run) -> Validate | None:
    candidates = None
    if config.unseen_items == "drop":
        sequences = sequences.known()
        candidates = sequences.train_counts() > 0
    targets = sequences.targets(VALID, every=config.targets == "every")
    if not len(targets):
        return None
    targets = targets.sample(config.validation_users, run.rng("validation"))
    quiet = Run(stage=run.stage, seed=run.seed, device=run.device, quiet=True)

    def validate() -> dict[str, float]:
        ranking = rank(
            model,
            sequences,
            targets,
            mask_seen=config.mask_seen,
            k=VALIDATION_LIST,
            run=quiet,
            exhaustive=model.exact,
            candidates=candidates,
        )
        return {
            name: value
            for name, value in measure(ranking, (10, VALIDATION_LIST)).items()
            if not name.startswith("coverage")
        }

    return validate
