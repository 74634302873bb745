"""The stage `fuse`: the vectors of several modalities become one vector per item."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.embeddings import Batch, EmbeddingsReader, EmbeddingsWriter
from modalrec.artifacts.files import write_json
from modalrec.errors import ArtifactError, ConfigError
from modalrec.fusers import Fuser, TrainedFuser, save_fuser
from modalrec.fusers.concat import ConcatConfig
from modalrec.run import Run
from modalrec.stages._fuse_learn import learn, read_modalities, share_out
from modalrec.stages._fuse_measure import measure
from modalrec.stages._items import train_items
from modalrec.training.checkpoint import fingerprint
from modalrec.training.loop import TrainingConfig


class FuserTraining(TrainingConfig):
    """Training with defaults for fusers that are trained.

    Attributes:
        epochs: 60, some seconds for a small catalogue; early stopping often needs fewer.
        batch_size: 256: an item is told from 255 others.
        warmup_steps: 20, since the projections are set before and Adam's first steps are its largest.
        patience: 10 epochs without a better objective on the validation items.
    """

    epochs: int = Field(60, ge=0)
    batch_size: int = Field(256, ge=2)
    warmup_steps: int = Field(20, ge=0)
    patience: int = Field(10, ge=0)


class Config(configs.Config):
    """How modalities are joined.

    Attributes:
        modalities: What to join of the vectors that are given: text, image, or both.
        fuser: Any fuser. What follows is for those that are trained.
        training: How to train it.
        split: Where the dataset is given: the split whose train events make an item a train item.
        test_share: Share of the train items that retrieval is measured on, and nothing else.
        valid_share: Share of the train items that say when to stop; 0 keeps the last epoch.
    """

    modalities: tuple[Literal["text", "image"], ...] = Field(("text", "image"), min_length=1)
    fuser: plugins.any_config("fusers") = ConcatConfig()  # type: ignore[valid-type]
    training: FuserTraining = FuserTraining()
    split: str = "leave_one_out"
    test_share: float = Field(0.1, ge=0, lt=1)
    valid_share: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _something_is_left(self) -> "Config":
        if self.test_share + self.valid_share >= 1:
            raise ValueError(
                f"test_share={self.test_share} and valid_share={self.valid_share} leave nothing to learn from"
            )
        return self


def fuse(
    embeddings: Path,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
    dataset: Path | None = None,
    *,
    config: Config,
    run: Run,
) -> dict[str, float]:
    """Joins text and image vectors of the same items; either may be left out, or not asked for.

    An item is present where any modality is; what stands in for a missing one is the fuser's to say.

    A fuser that is trained learns from train items alone: those with a train event where the dataset is given, else all
    that are present. Of these a share stops training and another is only measured. What the artifact keeps of the fuser
    (`modalrec.fusers.load_fuser`) fuses new items the same way.

    Args:
        embeddings: Where to write the fused vectors.
        text_embeddings: Text vectors.
        image_embeddings: Image vectors.
        dataset: Says which items are train items; read for fusers that are trained only.
        config: The fuser and its training.
        run: The stage's run.

    Returns:
        items, present, missing, dimension, and the number of items per combination of modalities, such as
        `items_text_image` and `items_none`. Of a trained fuser also epochs, how many items it learnt from, and on the
        test items retrieval between modalities before and after, and what the fused vector explains of each; see
        `measure`.

    Raises:
        ConfigError: None of the modalities that are asked for is given, or the dataset lacks the split.
        DataError: There is no train item to learn from.
        ArtifactError: The two are not about the same items in the same order, or the dataset is about others.
        TrainingError: The training diverged.
    """
    given = {"text": text_embeddings, "image": image_embeddings}
    folders: dict[str, Path] = {
        name: folder for name, folder in given.items() if folder is not None and name in config.modalities
    }
    if not folders:
        wanted = " or ".join(f"{name}_embeddings" for name in given if name in config.modalities)
        raise ConfigError(f"fuse: no vectors of modalities={'+'.join(config.modalities)} are given; give {wanted}")
    manifests = {f"{name}_embeddings": read_manifest(folder, "embeddings") for name, folder in folders.items()}
    # A modality that no item has, skipped or not in the data, has nothing to add.
    present = {name: manifests[f"{name}_embeddings"].statistics.get("present", 1) for name in folders}
    folders = {name: folder for name, folder in folders.items() if present[name]} or folders
    readers = {name: EmbeddingsReader(folder) for name, folder in folders.items()}
    dimensions = {name: reader.dimension for name, reader in readers.items()}
    fuser: Fuser = plugins.create("fusers", config.fuser, dimensions, run.seed)
    trained = isinstance(fuser, TrainedFuser)
    if dataset is not None and trained:
        manifests["dataset"] = read_manifest(dataset, "dataset")
    combinations: Counter[str] = Counter()
    n_items = next(iter(readers.values())).n_items
    with write_artifact(embeddings, "embeddings", stage="fuse", config=config, seed=run.seed, inputs=manifests) as work:
        found: dict[str, float] = {}
        if isinstance(fuser, TrainedFuser):
            identity = fingerprint("fuse", config, run.seed, manifests)
            found = _train(fuser, readers, folders, dataset, work.folder, config, run, identity)
        save_fuser(work.folder, fuser, config.fuser, dimensions, run.seed)
        with EmbeddingsWriter(work.folder, fuser.dimension) as writer, run.progress("items", n_items) as progress:
            for batch in _together(readers):
                present = {name: part.present for name, part in batch.items()}
                fused = fuser.fuse({name: part.vectors_ND for name, part in batch.items()}, present)
                flags = np.stack(list(present.values()), axis=1)
                item_ids = next(iter(batch.values())).item_ids
                writer.write(item_ids, np.logical_or.reduce(flags, axis=1), fused)
                combinations.update("_".join(np.array(list(present))[row]) or "none" for row in flags)
                progress.advance(len(item_ids))
        missing = combinations["none"]
        counts = {"items": n_items, "present": n_items - missing, "missing": missing, "dimension": fuser.dimension}
        counts |= {f"items_{name}": count for name, count in sorted(combinations.items())}
        work.statistics |= {**counts, **found, "fuser": config.fuser.name}
        if trained:
            work.statistics["train_items"] = f"split {config.split}" if dataset else "all present"
    return {name: float(value) for name, value in (counts | found).items()}


def _train(
    fuser: TrainedFuser,
    readers: Mapping[str, EmbeddingsReader],
    folders: Mapping[str, Path],
    dataset: Path | None,
    folder: Path,
    config: Config,
    run: Run,
    identity: str,
) -> dict[str, float]:
    """Trains a fuser, writes `curves.json`, and returns what is to be said of it."""
    for _ in _together(readers):  # refuses other items before anything is learnt from them
        pass
    modalities = read_modalities(folders)
    of_train = None if dataset is None else train_items(dataset, config.split, modalities.item_ids)
    shares = share_out(modalities, of_train, config.test_share, config.valid_share, run)
    curves = learn(fuser, modalities, shares, config.training, run, identity)
    write_json(folder / "curves.json", curves)
    best = max(curves, key=lambda entry: entry.get("held_out_objective", entry["epoch"]), default={"epoch": 0})
    counts = {f"items_{name}": float(len(rows)) for name, rows in shares._asdict().items()}
    found = {"epochs": float(len(curves)), "best_epoch": best["epoch"], **counts}
    return found | measure(fuser, modalities, shares)


def _together(readers: Mapping[str, EmbeddingsReader]) -> Iterator[dict[str, Batch]]:
    """Yields the same items from all readers.

    Raises:
        ArtifactError: They do not hold the same items in the same order.
    """
    first, *others = readers.values()
    for other in others:
        if other.n_items != first.n_items:
            raise ArtifactError(
                f"{first.path} has {first.n_items} items, {other.path} has {other.n_items}; "
                "run embed_text and embed_image on the same dataset"
            )
    done = 0
    for parts in zip(*(reader.batches() for reader in readers.values()), strict=True):
        for reader, part in zip(others, parts[1:], strict=True):
            differs = part.item_ids != parts[0].item_ids
            if differs.any():
                row = int(np.argmax(differs))
                raise ArtifactError(
                    f"row {done + row} is item {parts[0].item_ids[row]!r} in {first.path} and "
                    f"{part.item_ids[row]!r} in {reader.path}; run embed_text and embed_image on the same dataset"
                )
        yield dict(zip(readers, parts, strict=True))
        done += len(parts[0].item_ids)
