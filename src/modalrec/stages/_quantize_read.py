"""What `quantize` reads: towers of vectors, and the items' collaborative vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.embeddings import Batch, EmbeddingsReader
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.data.columns import Columns
from modalrec.data.sequences import Sequences
from modalrec.errors import ArtifactError, ConfigError, DataError
from modalrec.training.collaborative import collaborative_vectors
from modalrec.training.vectors import Chosen

# N items, D length of a tower's vectors, P of collaborative ones.

LARGEST = 1e15
TEXT, IMAGE, FUSED = "text", "image", "content"


@dataclass(frozen=True)
class Tower:
    """The vectors that some of the codes stand for.

    Attributes:
        name: The modality; empty for the fused vectors.
        item_ids: [N] ids, in the dataset's order.
        present_N: Whether the item has a vector.
        vectors_ND: The vectors, on disk; the mean of all others where there is none.
    """

    name: str
    item_ids: NDArray[np.object_]
    present_N: NDArray[np.bool_]
    vectors_ND: NDArray[np.float32]


def choose_edges(given: Mapping[str, Path | None], towers: str, *, all_needed: bool = True) -> dict[str, Path]:
    """From the name of each tower to its folder.

    Args:
        given: From edge to folder.
        towers: The setting.
        all_needed: Of both modalities; otherwise one is enough.

    Raises:
        ConfigError: An edge that the towers need is not given.
    """
    edges = {"": "embeddings"} if towers == "fused" else {TEXT: "text_embeddings", IMAGE: "image_embeddings"}
    missing = [edge for edge in edges.values() if given[edge] is None]
    if missing and (all_needed or len(missing) == len(edges)):
        raise ConfigError(
            f"quantize: towers={towers!r} codes {' and '.join(edges.values())}, and {' and '.join(missing)} is not "
            "given; give it, or choose other towers"
        )
    return {name: folder for name, edge in edges.items() if (folder := given[edge]) is not None}


def group_name(tower: Tower) -> str:
    """What the code group of a tower is called: its modality, or `content` of the fused vectors."""
    return tower.name or FUSED


def read_towers(folders: Mapping[str, Path], shared: bool, *, all_needed: bool = True) -> list[Tower]:
    """Reads the vectors of each tower.

    Args:
        folders: From the name of each tower to its folder.
        shared: Whether the towers share their code space.
        all_needed: Refuse a tower in which no item has a vector; otherwise it is left out, unless it is the only one.

    Raises:
        DataError: No item has a vector, or one has extreme values.
        ArtifactError: The vectors are damaged, one is not finite, or the towers are not about the same items.
        ConfigError: Towers with a shared code space have vectors of different lengths.
    """
    if not all_needed:
        filled = {name: folder for name, folder in folders.items() if _any_vector(folder)}
        folders = filled or folders
    towers = [_read(name, folder) for name, folder in folders.items()]
    for tower, folder in zip(towers, folders.values(), strict=True):
        if not np.array_equal(tower.item_ids, towers[0].item_ids):
            raise ArtifactError(
                f"{folder}: is not about the same items as the other tower; run embed_text and embed_image on the same "
                "dataset"
            )
    lengths = {tower.name: tower.vectors_ND.shape[1] for tower in towers}
    if shared and len(set(lengths.values())) > 1:
        raise ConfigError(
            "quantize: towers='shared' needs vectors of one length, and "
            f"{', '.join(f'{name} has {length}' for name, length in lengths.items())}; take encoders with a common "
            "space, such as CLIP's, or towers=separate"
        )
    return towers


def read_partners(
    dataset: Path | None, split: str, width: int, item_ids: NDArray[np.object_], seed: int
) -> NDArray[np.float32]:
    """Collaborative vectors [N, P] of the items, from the train events of a split alone.

    Raises:
        ConfigError: No dataset is given, or it has no such split.
        ArtifactError: The dataset has other items.
    """
    if dataset is None:
        raise ConfigError(
            "quantize: quantizer.alignment needs the interactions, and `dataset` is not given; give it, or set "
            "quantizer.alignment=0"
        )
    known = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"])["item_id"].to_pylist()
    if known != list(item_ids):
        raise ArtifactError(f"{dataset}: has other items than the embeddings; run the stages between again")
    return collaborative_vectors(Sequences.load(dataset, split), width, seed)


def _any_vector(folder: Path) -> bool:
    return any(bool(batch.present.any()) for batch in EmbeddingsReader(folder).batches())


def _read(name: str, folder: Path) -> Tower:
    reader, column = EmbeddingsReader(folder), Columns()
    item_ids, present_N, done = np.empty(reader.n_items, object), np.empty(reader.n_items, np.bool_), 0
    for batch in reader.batches():
        rows = slice(done, done + len(batch.item_ids))
        item_ids[rows], present_N[rows], done = batch.item_ids, batch.present, rows.stop
        _refuse_extreme(folder, batch, rows.start)
        column.append("vectors", batch.vectors_ND, np.float32)
    if not present_N.any():
        raise DataError(f"{folder}: none of the {len(item_ids)} items has a vector; embed texts or images first")
    vectors_ND = column.take("vectors", writable=True).reshape(-1, reader.dimension)
    if not present_N.all():
        vectors_ND[~present_N] = Chosen([(vectors_ND, np.flatnonzero(present_N))]).mean()
    return Tower(name, item_ids, present_N, vectors_ND)


def _refuse_extreme(folder: Path, batch: Batch, before: int) -> None:
    largest_N = np.maximum(batch.vectors_ND.max(axis=1), -batch.vectors_ND.min(axis=1))
    row = int(largest_N.argmax())
    if largest_N[row] > LARGEST:
        raise DataError(
            f"{folder}: row {before + row} (item {batch.item_ids[row]!r}) has the extreme value {largest_N[row]:.3g}, "
            "whose square is beyond float32; scale the vectors, to length 1 for example as `fuse` does"
        )
