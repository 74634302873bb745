"""What is near what: some items with their nearest neighbours by text, by picture, and by the fused vector."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.embedding_lists import load_lists
from modalrec.artifacts.embeddings import EmbeddingsReader
from modalrec.errors import ArtifactError
from modalrec.evaluation.report.tiles import Tile, tiles_of
from modalrec.run import Run

# Q items that are asked for, N items, B of them at a time, D dimensions, K neighbours.

EDGES = {"text_embeddings": "by text", "image_embeddings": "by picture", "embeddings": "by the fused vector"}
ITEMS, NEAREST = 4, 6


@dataclass(frozen=True)
class Neighbours:
    """An item, and its nearest ones in each space."""

    item: Tile
    spaces: list[tuple[str, list[Tile]]]


def neighbour_section(folders: Mapping[str, Path], run: Run) -> list[Neighbours]:
    """Some items, drawn at random from those with a vector in every space, and what is nearest to each by the cosine.

    Args:
        folders: The artifacts; `dataset`, and the vectors by edge.
        run: The stage's run.
    """
    edges = [edge for edge in EDGES if edge in folders]
    if not edges:
        return []
    present = [pq.read_table(folders[edge] / "embeddings.parquet", columns=["present"])["present"] for edge in edges]
    able = np.flatnonzero(np.logical_and.reduce([column.to_numpy() for column in present]))
    if len(able) < 2:
        return []
    asked = np.sort(run.rng("neighbours").permutation(able)[:ITEMS])
    near = {edge: nearest(folders[edge], asked, NEAREST) for edge in edges}
    shown = {*asked.tolist(), *(item for found in near.values() for row in found for item in row)}
    tiles = tiles_of(folders["dataset"], sorted(shown))
    return [
        Neighbours(tiles[item], [(EDGES[edge], [tiles[other] for other in near[edge][row]]) for edge in edges])
        for row, item in enumerate(asked.tolist())
    ]


def nearest(folder: Path, asked: NDArray[np.int64], k: int) -> list[list[int]]:
    """The `k` items with the highest cosine to each of `asked`, itself left out; the vectors are read once, in blocks.

    Of an item with several vectors their mean counts.

    Args:
        folder: Embeddings.
        asked: [Q] items that have a vector.
        k: Neighbours.
    """
    asked_QD, blocks = _vectors(folder, asked)
    asked_QD, begin = _unit(asked_QD), 0
    best_QK = np.full((len(asked), 0), -np.inf, np.float32)
    items_QK = np.full((len(asked), 0), -1, np.int64)
    for vectors_BD in blocks:
        unit_BD = _unit(vectors_BD)
        scores_QB = asked_QD @ unit_BD.T
        items_B = np.arange(begin, begin + len(unit_BD))
        scores_QB[items_B[None, :] == asked[:, None]] = -np.inf
        scores_QB[:, ~unit_BD.any(1)] = -np.inf
        both = np.concatenate([best_QK, scores_QB], axis=1)
        items = np.concatenate([items_QK, np.tile(items_B, (len(asked), 1))], axis=1)
        order_QK = np.argsort(-both, axis=1, kind="stable")[:, :k]
        best_QK, items_QK = (np.take_along_axis(of, order_QK, axis=1) for of in (both, items))
        begin += len(unit_BD)
    return [row[kept].tolist() for row, kept in zip(items_QK, best_QK > -np.inf, strict=True)]


def _vectors(folder: Path, asked: NDArray[np.int64]) -> tuple[NDArray[np.float32], Iterable[NDArray[np.float32]]]:
    """The vectors of the items that are asked for, and those of all in blocks; zero where an item has none."""
    try:
        reader = EmbeddingsReader(folder)
    except ArtifactError:
        means_ND = load_lists(folder)[1].means()
        return means_ND[asked], [means_ND]
    return reader.take(asked), (batch.vectors_ND for batch in reader.batches())


def _unit(vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    norms_N = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: NDArray[np.float32] = vectors_ND / np.maximum(norms_N, 1e-12)
    return unit_ND
