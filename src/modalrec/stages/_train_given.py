"""What training needs, and what is made of it before it begins; the same for histories and for rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from modalrec.artifacts import Manifest
from modalrec.recommenders import Model
from modalrec.run import Run
from modalrec.stages._train_config import TrainConfig
from modalrec.training.batches import Batches
from modalrec.training.loop import TrainingConfig, Validate


class Given(NamedTuple):
    """Inputs and settings of a training.

    Attributes:
        dataset: The dataset.
        split: The split to train on.
        about: What else tells of the items, by edge.
        start: A model to start from, or None.
        manifests: Of all inputs by edge.
        augment: Train on perturbed histories.
        config: The stage's configuration.
        training: How to train; without epochs where the split is lacking and may be.
        run: The stage's run.
    """

    dataset: Path
    split: str
    about: Mapping[str, Path]
    start: Path | None
    manifests: Mapping[str, Manifest]
    augment: bool
    config: TrainConfig
    training: TrainingConfig
    run: Run


class Prepared(NamedTuple):
    """What is trained, on what, how it is validated, and how many numbers it took over from its start."""

    model: Model
    batches: Batches
    validate: Validate | None
    taken: dict[str, int]
