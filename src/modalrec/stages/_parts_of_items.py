"""Embedding a catalogue in parts, each on a machine of its own: which items a part has, and their contents."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from modalrec import config as configs

Content = TypeVar("Content", str, bytes)


class PartConfig(configs.Config):
    """Which items to embed.

    Attributes:
        part: Number of this part, from 0.
        parts: How many parts the items are cut into, in the dataset's order; `modalrec join` makes one of them.
    """

    part: int = Field(0, ge=0)
    parts: PositiveInt = 1

    @model_validator(mode="after")
    def _one_of_them(self) -> "PartConfig":
        if self.part >= self.parts:
            raise ValueError(f"part: {self.part} is none of {self.parts} parts, which are numbered from 0")
        return self

    def bounds(self, n_items: int) -> tuple[int, int]:
        """The first item of this part, and the one behind its last."""
        return n_items * self.part // self.parts, n_items * (self.part + 1) // self.parts


def within(
    windows: Iterable[tuple[NDArray[np.int32], list[Content]]], bounds: tuple[int, int]
) -> Iterator[tuple[NDArray[np.int32], list[Content]]]:
    """The contents of items within the bounds, whose indices then count from the first of them."""
    first, end = bounds
    for rows, contents in windows:
        kept = np.flatnonzero((rows >= first) & (rows < end))
        if len(kept) == len(rows):
            yield rows - np.int32(first), contents
        elif len(kept):
            yield rows[kept] - np.int32(first), [contents[place] for place in kept]
