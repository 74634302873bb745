"""Negative samples by popularity: a store of them is drawn at once and used up step by step."""

import copy

import numpy as np
from numpy.typing import NDArray

from modalrec.compiled import kernel
from modalrec.errors import ConfigError


class SampleStore:
    """Samples items with probability proportional to support^alpha, through Walker's alias table in float64.

    A float32 cumulative table, as published, resolves no more than 2^-24: items of a large catalogue's tail would never
    be drawn. Samples that equal a target, and repeats, are kept.
    """

    def __init__(self, support: NDArray[np.int64], n_sample: int, alpha: float, size: int, seed: int) -> None:
        """Prepares the table.

        Args:
            support: [N] train events of each item; those without any are never drawn.
            n_sample: Samples of a step.
            alpha: 0 draws uniformly, 1 by popularity.
            size: Samples that are drawn at once.
            seed: Of all draws; what a step gets depends on it, the epoch and the step's number alone.

        Raises:
            ConfigError: There are samples to draw and no train event to draw them from.
        """
        if n_sample and not support.any():
            raise ConfigError("n_sample: there is no train event to sample items from; set n_sample=0")
        self.n_sample, self.seed = n_sample, seed
        self.steps = max(1, size // max(n_sample, 1))
        self._items = np.flatnonzero(support).astype(np.int32)
        weights = support[self._items].astype(np.float64) ** alpha
        self._chance, self._other = alias_table(weights / weights.sum()) if n_sample else (weights, self._items)
        self._stream: tuple[int, ...] = ()
        self._store: tuple[tuple[int, int], NDArray[np.int32]] | None = None

    def of_stream(self, number: int) -> "SampleStore":
        """The same table with draws of its own."""
        other = copy.copy(self)
        other._stream, other._store = (number,), None
        return other

    def samples(self, epoch: int, first: int, last: int, n_steps: int) -> NDArray[np.int32]:
        """[last - first, n_sample] items for consecutive steps of an epoch of `n_steps`."""
        found = np.empty((last - first, self.n_sample), np.int32)
        for block in range(first // self.steps, (last - 1) // self.steps + 1) if self.n_sample else ():
            begin, end = max(first, block * self.steps), min(last, (block + 1) * self.steps)
            rows = self._block(epoch, block, min(self.steps, n_steps - block * self.steps))
            found[begin - first : end - first] = rows[begin - block * self.steps : end - block * self.steps]
        return found

    def _block(self, epoch: int, block: int, steps: int) -> NDArray[np.int32]:
        if self._store is None or self._store[0] != (epoch, block):
            rng = np.random.default_rng([self.seed, epoch, block, 3, *self._stream])
            drawn = np.empty((steps, self.n_sample), np.int32)
            for row in drawn:
                _draw(rng.random(self.n_sample), self._chance, self._other, self._items, row)
            self._store = ((epoch, block), drawn)
        return self._store[1]


def alias_table(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Walker's table (Vose 1991): cell i keeps i with `chance[i]` and gives `other[i]` otherwise.

    Args:
        probabilities: [N], with a sum of 1.
    """
    chance = probabilities * len(probabilities)
    other = np.arange(len(chance), dtype=np.int32)
    _fill(chance, other, np.flatnonzero(chance < 1), np.flatnonzero(chance >= 1))
    return chance, other


@kernel
def _fill(chance, other, small, large):  # type: ignore[no-untyped-def]
    """Gives every cell below 1 its rest from a cell above 1; a large cell that falls below 1 becomes a small one."""
    pending = np.empty(chance.size, np.int64)
    n_pending = small.size
    pending[:n_pending] = small
    n_large = large.size
    while n_pending > 0 and n_large > 0:
        n_pending -= 1
        poor, rich = pending[n_pending], large[n_large - 1]
        other[poor] = rich
        chance[rich] -= 1.0 - chance[poor]
        if chance[rich] < 1.0:
            n_large -= 1
            pending[n_pending] = rich
            n_pending += 1
    # What is left is 1 but for rounding.
    for place in range(n_pending):
        chance[pending[place]] = 1.0
    for place in range(n_large):
        chance[large[place]] = 1.0


@kernel
def _draw(uniform, chance, other, items, out):  # type: ignore[no-untyped-def]
    """One number a draw: its whole part names the cell, the rest decides inside of it."""
    for place in range(uniform.size):
        spot = uniform[place] * chance.size
        cell = min(int(spot), chance.size - 1)
        out[place] = items[cell if spot - cell < chance[cell] else other[cell]]
