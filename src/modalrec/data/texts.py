"""Texts of items, read from a dataset in windows of bounded size."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from modalrec.artifacts.schemas import stream
from modalrec.data.sentences import sentences

WINDOW, WINDOW_CHARACTERS = 16384, 32 << 20
"""Texts that are sorted by length together, or fewer where they are long: enough that batches of hundreds are of one
length, and bounded memory."""


def load_texts(dataset: Path, max_sentences: int = 1) -> Iterator[tuple[NDArray[np.int32], list[str]]]:
    """Yields the texts of a dataset, or their first sentences, item by item; items without any are left out.

    Args:
        dataset: The artifact's folder.
        max_sentences: 1 takes a text whole; more give so many of its first sentences, each as a text of its own.

    Yields:
        Item indices [n], ascending, and their n texts; an item's index stands once for each of its sentences.
    """
    rows: list[int] = []
    texts: list[str] = []
    first = characters = 0
    with pq.ParquetFile(dataset / "items.parquet") as file:
        for batch in stream(file, WINDOW // 16, ["text"]):
            for row, text in enumerate(batch.column("text").to_pylist(), first):
                if text and text.strip():
                    parts = [text] if max_sentences == 1 else sentences(text, max_sentences)
                    rows += [row] * len(parts)
                    texts += parts
                    characters += len(text)
            first += len(batch)
            if len(texts) > WINDOW - WINDOW // 16 or characters > WINDOW_CHARACTERS:
                yield np.asarray(rows, np.int32), texts
                rows, texts, characters = [], [], 0
    yield np.asarray(rows, np.int32), texts
