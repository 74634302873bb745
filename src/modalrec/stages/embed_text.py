"""The stage `embed_text`: item texts become vectors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import PositiveInt, field_validator

from modalrec import config as configs
from modalrec import plugins
from modalrec.artifacts import read_manifest, write_artifact
from modalrec.artifacts.schemas import ITEMS, read_table
from modalrec.encoders import Encoder
from modalrec.encoders.minilm import MiniLMConfig
from modalrec.run import Run
from modalrec.stages.embedding import embed, require_modality

WINDOW = 4096
"""Texts that are sorted by length together: enough that batches are of one length, some MB at most."""


class Config(configs.Config):
    """Which encoder, and how many texts at a time.

    Attributes:
        encoder: Any encoder of texts.
        batch_size: Texts at a time; on a CPU 32 is as fast as more, a GPU takes hundreds.
    """

    encoder: plugins.any_config("encoders") = MiniLMConfig()  # type: ignore[valid-type]
    batch_size: PositiveInt = 32

    @field_validator("encoder")
    @classmethod
    def _encodes_text(cls, encoder: configs.Config) -> configs.Config:
        return require_modality(encoder, "text")


def embed_text(dataset: Path, text_embeddings: Path, *, config: Config, run: Run) -> dict[str, float]:
    """Encodes the text of every item of a dataset, each distinct text once.

    An item whose text is null or blank stays in, as not present with a zero vector.

    Args:
        dataset: The dataset.
        text_embeddings: Where to write the vectors, one row an item in the dataset's order.
        config: The encoder and the batch size.
        run: The stage's run.

    Returns:
        items, present, missing, distinct (texts), dimension.

    Raises:
        UpstreamError: The encoder's weights are not installed, or its vectors are not finite or of a wrong shape.
    """
    manifest = read_manifest(dataset, "dataset")
    item_ids = read_table(dataset / "items.parquet", ITEMS, columns=["item_id"])["item_id"]
    encoder: Encoder = plugins.create("encoders", config.encoder, run.torch_device())
    with write_artifact(
        text_embeddings, "embeddings", stage="embed_text", config=config, seed=run.seed, inputs={"dataset": manifest}
    ) as work:
        return embed(
            work,
            item_ids,
            _texts(dataset),
            encoder.encode_texts,
            encoder,
            batch_size=config.batch_size,
            total=sum(len(rows) for rows, _ in _texts(dataset)),
            run=run,
        )


def _texts(dataset: Path) -> Iterator[tuple[NDArray[np.int32], list[str]]]:
    first = 0
    with pq.ParquetFile(dataset / "items.parquet") as file:
        for batch in file.iter_batches(batch_size=WINDOW, columns=["text"]):
            texts = batch.column("text").to_pylist()
            rows = [row for row, text in enumerate(texts) if text and text.strip()]
            yield np.asarray(rows, np.int32) + first, [texts[row] for row in rows]
            first += len(texts)
