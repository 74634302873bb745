"""What stages know of the items: their names, and the codes and vectors that belong to them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modalrec.artifacts.codes import read_codes
from modalrec.artifacts.embedding_lists import VectorLists, load_lists
from modalrec.artifacts.embeddings import load as load_embeddings
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.data.sequences import Sequences
from modalrec.errors import ArtifactError
from modalrec.recommenders import ItemSpace


def item_space(
    dataset: Path,
    codes: Path | None = None,
    embeddings: Path | None = None,
    text_embeddings: Path | None = None,
    image_embeddings: Path | None = None,
) -> ItemSpace:
    """The catalogue of a dataset, with semantic IDs and vectors where they are given.

    Raises:
        ArtifactError: Codes or vectors were made for other items.
    """
    table = read_table(dataset / "items.parquet", ITEMS, columns=["item_id", "title"])
    item_ids, titles = table["item_id"].to_pylist(), table["title"].to_pylist()
    space = ItemSpace(item_ids, titles)
    if codes is not None:
        coded_ids, codes_NL, sizes = read_codes(codes)
        refuse_other_items(codes, coded_ids, item_ids, "code", "embed, fuse and quantize")
        space = replace(space, codes=np.asarray(codes_NL, np.int32), codebook_sizes=tuple(sizes))
    if embeddings is not None:
        given = load_embeddings(embeddings)
        refuse_other_items(embeddings, given.item_ids.tolist(), item_ids, "vector", "embed and fuse")
        space = replace(space, content=np.ascontiguousarray(given.vectors_ND))
    if text_embeddings is not None:
        space = replace(space, text=_lists(text_embeddings, item_ids, "embed_text"))
    if image_embeddings is not None:
        space = replace(space, image=_lists(image_embeddings, item_ids, "embed_image"))
    return space


def item_content(
    dataset: Path, embeddings: Path | None, text_embeddings: Path | None, image_embeddings: Path | None
) -> NDArray[np.float32] | None:
    """One vector an item [N, V]: the fused one, or the means of its text's and its picture's side by side.

    Raises:
        ArtifactError: Vectors were made for other items.
    """
    if embeddings is not None:
        return item_space(dataset, embeddings=embeddings).content
    space = item_space(dataset, text_embeddings=text_embeddings, image_embeddings=image_embeddings)
    found = [lists.means() for lists in (space.text, space.image) if lists is not None]
    return np.concatenate(found, axis=1) if found else None


def _lists(folder: Path, item_ids: list[str], stage: str) -> VectorLists:
    given_ids, lists = load_lists(folder)
    refuse_other_items(folder, given_ids.tolist(), item_ids, "vector", stage)
    return lists


def train_items(dataset: Path, split: str, item_ids: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which items have a train event, [N].

    Raises:
        ConfigError: The dataset has no such split.
        ArtifactError: It has other items.
    """
    known = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"])["item_id"].to_pylist()
    if known != list(item_ids):
        raise ArtifactError(f"{dataset}: has other items than the embeddings; run embed_text and embed_image on it")
    return Sequences.load(dataset, split).train_counts() > 0


def refuse_other_items(folder: Path, given: list[str], item_ids: list[str], what: str, stages: str) -> None:
    """Refuses what was made for other items.

    Raises:
        ArtifactError: With how many of the dataset's items have none.
    """
    if given == item_ids:
        return
    lacking = sorted(set(item_ids) - set(given))
    example = f" (first: {lacking[0]})" if lacking else ""
    raise ArtifactError(
        f"{folder}: made for other items: {len(lacking):,} of the dataset's {len(item_ids):,} items have no "
        f"{what}{example}; run {stages} on this dataset"
    )
