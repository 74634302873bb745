"""New items for a trained model: vectors and codes from its own folder, and no training."""

import shutil
import tempfile
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec import config as configs
from modalrec.artifacts.manifest import NAME, Manifest, read_manifest, write_artifact
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.data.archives import Archive
from modalrec.data.images import ImageConfig, ImageWriter, load_images, open_image
from modalrec.data.sources import ITEM_ROWS
from modalrec.data.sources._columns import find_table
from modalrec.data.sources._item_table import ItemColumns, ItemTable
from modalrec.errors import ConfigError, DataError
from modalrec.recommenders import ItemSpace, load_recommender, save_recommender
from modalrec.run import Run
from modalrec.stages._encoding import FOLDER, codes_of, embed, fused, settings_of
from modalrec.stages._ingest_images import write_images
from modalrec.stages._ingest_read import rows_of


class Config(configs.Config):
    """How a table of new items is read; an artifact `dataset` needs none of it.

    Attributes:
        item_columns: Column names.
        category_separator: Between the categories in one cell.
        images: Folder or zip of pictures beside the table; by default `images` or `images.zip` where there is one.
    """

    item_columns: ItemColumns = ItemColumns()
    category_separator: str = "|"
    images: str | None = None


def encode_items(model: Path, items: Path, encoded: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Writes the same model with more items behind its own: it recommends them from now on, and nothing is trained.

    The folder of a model keeps its fuser and its quantizer, and its manifest names the encoders; so new items get the
    vectors and codes that they would have had among the model's own. Items that the model has stay as they are.

    Args:
        model: A model that knows items by their codes or vectors.
        items: A table of items as the source `tables` takes it, or its folder, with pictures beside; or a dataset.
        encoded: Where to write the model.
        config: How to read the table.
        run: The stage's run.

    Returns:
        `items` given, `known` of them, `added`, `without_vector` among these, and `shared_ids`: those whose semantic ID
        is also another item's, since the model has no position left for them.

    Raises:
        ConfigError: The model knows items by their IDs alone, or by texts and pictures apart.
        DataError: The table is malformed, or has no new item.
        ArtifactError: The model keeps no way to its vectors or codes.
    """
    manifest = read_manifest(model, "model")
    recommender = load_recommender(model)
    if not recommender.takes_new_items(recommender.config):
        raise ConfigError(
            f"{model}: {recommender.config.name} with these settings takes no new items: it knows items by IDs, or by "
            "texts and pictures apart; train a model that knows them by codes or one vector each, such as sasrec with "
            "content=sum"
        )
    with write_artifact(
        encoded, "model", stage="encode_items", config=config, seed=run.seed, inputs={"model": manifest}
    ) as work:
        with tempfile.TemporaryDirectory(dir=work.folder) as scratch:
            fresh = _new_items(items, {*recommender.items.item_ids}, Path(scratch), manifest, config, run)
            added, numbers = _described(model, manifest, recommender.items, fresh, Path(scratch), run)
        save_recommender(work.folder, recommender.with_items(recommender.items.joined(added)))
        shutil.copytree(model / FOLDER, work.folder / FOLDER)
        work.statistics |= {"known": fresh.known, "items": fresh.known + len(added), "added": len(added), **numbers}
        found = {name: float(value) for name, value in work.statistics.items()}
    run.say(f"{len(added):,} items added, {fresh.known:,} were there; {len(recommender.items) + len(added):,} in all")
    return found


@dataclass(frozen=True)
class _Fresh:
    """A dataset of the new items alone, without events, and how many of the given ones the model has."""

    dataset: Path
    item_ids: list[str]
    titles: list[str]
    known: int


def _described(
    model: Path, manifest: Manifest, own: ItemSpace, fresh: _Fresh, scratch: Path, run: Run
) -> tuple[ItemSpace, dict[str, int]]:
    """The new items as the model's own are described, and what is to be said of them."""
    vectors = embed(fresh.dataset, scratch, manifest, run)
    vectors_NV = fused(model, vectors)
    numbers = {"without_vector": int((~vectors_NV.any(1)).sum())}
    codes = None
    if own.codes is not None:
        towers = {"": vectors_NV, **{name: part.vectors_ND for name, part in vectors.items()}}
        codes, numbers["shared_ids"] = codes_of(model, towers, own.codes, own.codebook_sizes)
    content = vectors_NV if own.content is not None else None
    return ItemSpace(fresh.item_ids, fresh.titles, codes, own.codebook_sizes, content), numbers


def _new_items(given: Path, known: Set[str], scratch: Path, model: Manifest, config: Config, run: Run) -> _Fresh:
    """Writes the items that the model does not have as a dataset.

    Raises:
        DataError: There is none, or the table is malformed.
    """
    place = scratch / "dataset"
    if (given / NAME).is_file():
        read_manifest(given, "dataset")
        table = read_table(given / "items.parquet", ITEMS).select(ITEMS.names)
    else:
        reader = _Table(given, config)
        table = pa.Table.from_batches(reader.batches(), ITEM_ROWS)
        rows_of(table["item_id"].to_pylist(), reader.items_file)
    new_N = np.array([item not in known for item in table["item_id"].to_pylist()], bool)
    if not new_N.any():
        raise DataError(f"{given}: the model has all of its {len(new_N):,} items already; there is nothing to add")
    fresh = table.filter(pa.array(new_N))
    with write_artifact(place, "dataset", stage="encode_items", config=config, seed=run.seed, inputs={}) as work:
        if (given / NAME).is_file():
            _copy_images(given, new_N, work.folder)
            states = fresh["image"].to_pylist()
        else:
            images = ImageConfig.model_validate(settings_of(model, "ingest").get("images", {}))
            states, _, _ = write_images(reader, fresh, images, work.folder, scratch / "pictures", run)
        columns = [pa.array(states) if name == "image" else fresh[name] for name in ITEMS.names]
        pq.write_table(pa.Table.from_arrays(columns, schema=ITEMS), work.folder / "items.parquet")
    titles = [title or "" for title in fresh["title"].to_pylist()]
    return _Fresh(place, fresh["item_id"].to_pylist(), titles, int((~new_N).sum()))


class _Table:
    """A table of items without any events, and its pictures."""

    def __init__(self, given: Path, config: Config) -> None:
        if not given.exists():
            raise DataError(f"{given}: is not there; give a table of items, its folder, or a dataset")
        self.items_file = given if given.is_file() else find_table(given, None, "items")
        self._table = ItemTable(self.items_file, config.item_columns, config.category_separator, config.images)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The items as `ITEM_ROWS`."""
        return self._table.batches()

    def pictures(self) -> Archive | None:
        """The pictures, where there are any."""
        return self._table.pictures


def _copy_images(dataset: Path, new_N: NDArray[np.bool_], folder: Path) -> None:
    """The pictures of new items, numbered anew."""
    places_N = np.cumsum(new_N) - 1
    with ImageWriter(folder) as writer:
        for rows, pictures in load_images(dataset):
            for row, picture in zip(rows.tolist(), pictures, strict=True):
                if new_N[row]:
                    writer.add(int(places_N[row]), picture, open_image(picture).size)
