"""Small datasets and embeddings, as their stages would write them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from modalrec.artifacts import write_artifact
from modalrec.artifacts.embeddings import EmbeddingsWriter
from modalrec.artifacts.schemas import INTERACTIONS, ITEMS, USERS
from modalrec.config import Config
from modalrec.data.images import ImageWriter


def jpeg(colour: str, size: tuple[int, int] = (32, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "JPEG")
    return buffer.getvalue()


def write_dataset(folder: Path, texts: Sequence[str | None], pictures: Mapping[int, bytes] | None = None) -> Path:
    """A dataset of items `a0`, `a1`, ... with these texts and, by item index, pictures."""
    pictures = pictures or {}
    with write_artifact(folder, "dataset", stage="ingest", config=Config(), seed=0, inputs={}) as work:
        rows = [
            {
                "item_id": f"a{row}",
                "title": f"Title {row}",
                "text": text,
                "image": "given" if row in pictures else "none",
            }
            for row, text in enumerate(texts)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=ITEMS), work.folder / "items.parquet")
        pq.write_table(USERS.empty_table(), work.folder / "users.parquet")
        pq.write_table(INTERACTIONS.empty_table(), work.folder / "interactions.parquet")
        with ImageWriter(work.folder) as writer:
            for row in sorted(pictures):
                writer.add(row, pictures[row], Image.open(io.BytesIO(pictures[row])).size)
    return folder


def write_embeddings(
    folder: Path,
    vectors_ND: NDArray[np.float32],
    present_N: NDArray[np.bool_] | None = None,
    stage: str = "fuse",
    item_ids: list[str] | None = None,
) -> Path:
    """An Embeddings artifact with these vectors, by default of items `i0`, `i1`, ..."""
    with (
        write_artifact(folder, "embeddings", stage=stage, config=Config(), seed=0, inputs={}) as work,
        EmbeddingsWriter(work.folder, vectors_ND.shape[1]) as writer,
    ):
        flags = np.ones(len(vectors_ND), bool) if present_N is None else present_N
        writer.write(item_ids or [f"i{row}" for row in range(len(vectors_ND))], flags, vectors_ND)
    return folder


def write_vectors(
    folder: Path, item_ids: Sequence[str], present: Sequence[bool], dimension: int, seed: int = 0
) -> Path:
    """An Embeddings artifact with random vectors."""
    with write_artifact(folder, "embeddings", stage="import", config=Config(), seed=seed, inputs={}) as work:
        vectors = np.random.default_rng(seed).standard_normal((len(item_ids), dimension)).astype(np.float32)
        with EmbeddingsWriter(work.folder, dimension) as writer:
            writer.write(list(item_ids), np.array(present), vectors)
        work.statistics |= {"items": len(item_ids), "present": sum(present)}
    return folder
