"""Session-parallel mini-batches (Hidasi et al. 2016, section 3.1): lanes that each walk through a session of their own.

Lane by lane, every step goes from an item of the lane's session to the next one. A lane whose session has ended takes
the next session; when none is left, the lane is closed, and the batch shrinks.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.data.sequences import Sequences
from modalrec.training.batches import Batches
from modalrec.training.sampling import SampleStore

# T steps of an epoch, M lanes of a step.


@dataclass(frozen=True)
class Schedule:
    """Which events meet in which step.

    Attributes:
        positions: Place of every lane's input event, step after step; its target is the event behind it.
        offsets: [T + 1]; step t owns `positions[offsets[t]:offsets[t + 1]]`.
        lanes: The lane, numbered from the first step on, of every position of the steps that are not full; these are
            the last ones, from `full` on.
        full: Number of steps in which all lanes are open.
    """

    positions: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lanes: NDArray[np.int32]
    full: int

    def __len__(self) -> int:
        return len(self.offsets) - 1


def schedule(offsets: NDArray[np.int64], order: NDArray[np.int64], batch_size: int, min_lanes: int = 1) -> Schedule:
    """Deals sessions to lanes, in order, each to the lane that is free first, the lower one of two.

    Args:
        offsets: [S + 1] session s owns the events `offsets[s]:offsets[s + 1]`.
        order: Sessions in the order they are dealt in; those of a single event teach nothing and are left out.
        batch_size: Lanes; fewer where there are fewer sessions.
        min_lanes: The epoch ends when fewer are open (2 where the other lanes' targets are the only negatives).
    """
    counts = np.diff(offsets)
    order = order[counts[order] >= 2]
    lengths = counts[order] - 1
    n_lanes = min(batch_size, len(order))
    lane_of = np.empty(len(order), np.int32)
    begin_of = np.empty(len(order), np.int64)
    free = [(0, lane) for lane in range(n_lanes)]
    for session, length in enumerate(lengths.tolist()):
        begin, lane = free[0]
        lane_of[session], begin_of[session] = lane, begin
        heapq.heapreplace(free, (begin + length, lane))
    ends = begin_of + lengths
    n_steps = int(ends.max(initial=0))
    grid = np.full((n_steps, max(n_lanes, 1)), -1, np.int32)
    places = np.repeat(begin_of, lengths) + _counted(lengths)
    grid[places, np.repeat(lane_of, lengths)] = np.repeat(offsets[order], lengths) + _counted(lengths)
    open_lanes = (grid >= 0).sum(1)
    n_steps = int((open_lanes >= min_lanes).sum())
    grid, open_lanes = grid[:n_steps], open_lanes[:n_steps]
    full = int((open_lanes == n_lanes).sum())
    tail = np.nonzero(grid[full:] >= 0)[1].astype(np.int32)
    return Schedule(grid[grid >= 0], np.concatenate([[0], np.cumsum(open_lanes)]), tail, full)


class SessionParallel(Batches):
    """Chunks of consecutive steps of session-parallel mini-batches, with the negatives of each step.

    A chunk is a mapping of tensors: `lanes` [k] of each step, and flat over the steps `inputs`, `targets` and `origins`
    (the lane of the step before whose state a lane goes on with, -1 for a fresh one); `samples` [k, n]; `epoch` and
    `first`, the number of the chunk's first step.
    """

    def __init__(
        self,
        train: Sequences,
        batch_size: int,
        store: SampleStore,
        *,
        shuffle_seed: int | None = None,
        chunk: int = 64,
        stream: tuple[int, int] = (0, 1),
    ) -> None:
        """Plans over the given events.

        Args:
            train: The sessions to learn from, one per user.
            batch_size: Lanes.
            store: Where negatives come from.
            shuffle_seed: Deal sessions in a new random order each epoch; by default oldest first, always.
            chunk: Steps of a chunk.
            stream: Number of this stream, and how many there are, n: it is dealt every n-th session.
        """
        self.train, self.batch_size, self.store = train, batch_size, store
        self.shuffle_seed, self.chunk, self.stream = shuffle_seed, chunk, stream
        self._first = np.zeros(len(train.items) + 1, np.bool_)
        self._first[train.offsets] = True
        self._schedule_of: tuple[int, Schedule] | None = None

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """The steps in order, cut into chunks."""
        steps = np.arange(len(self.schedule(epoch)))
        return [steps[begin : begin + self.chunk] for begin in range(0, len(steps), self.chunk)]

    def apart(self, count: int) -> "Streams":
        """As many streams of sessions, each with lanes, states and negatives of its own."""
        return Streams(
            [
                SessionParallel(
                    self.train,
                    self.batch_size,
                    self.store.of_stream(number),
                    shuffle_seed=self.shuffle_seed,
                    chunk=self.chunk,
                    stream=(number, count),
                )
                for number in range(count)
            ]
        )

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """One chunk."""
        plan = self.schedule(epoch)
        first, last = int(indices[0]), int(indices[-1]) + 1
        begin, end = plan.offsets[first], plan.offsets[last]
        positions = plan.positions[begin:end]
        lanes = np.diff(plan.offsets[first : last + 1])
        chunk = {
            "lanes": lanes.astype(np.int32),
            "inputs": self.train.items[positions],
            "targets": self.train.items[positions + 1],
            "origins": np.where(self._first[positions], -1, self._origins(plan, first, last)).astype(np.int32),
            "samples": self.store.samples(epoch, first, last, len(plan)),
            "epoch": np.array(epoch),
            "first": np.array(first),
        }
        return {name: torch.from_numpy(value) for name, value in chunk.items()}

    def schedule(self, epoch: int) -> Schedule:
        """The schedule of an epoch; without shuffling all epochs share one."""
        key = 0 if self.shuffle_seed is None else epoch
        if self._schedule_of is None or self._schedule_of[0] != key:
            self._schedule_of = (key, schedule(self.train.offsets, self._order(key), self.batch_size, self.min_lanes))
        return self._schedule_of[1]

    @property
    def min_lanes(self) -> int:
        """A lane alone has no negatives but sampled ones."""
        return 1 if self.store.n_sample else 2

    def _order(self, epoch: int) -> NDArray[np.int64]:
        number, count = self.stream
        if self.shuffle_seed is not None:
            return np.random.default_rng([self.shuffle_seed, epoch, 0]).permutation(self.train.n_users)[number::count]
        starts = self.train.starts
        order = np.arange(self.train.n_users) if starts is None else np.argsort(starts, kind="stable")
        return order[number::count]

    @staticmethod
    def _origins(plan: Schedule, first: int, last: int) -> NDArray[np.int64]:
        """The place, in the step before, of every lane of the steps."""
        found = []
        for step in range(first, last):
            lanes = np.arange(plan.offsets[step + 1] - plan.offsets[step])
            if step > plan.full:
                lanes = np.searchsorted(_lanes(plan, step - 1), _lanes(plan, step))
            elif step == plan.full and step > 0:
                lanes = _lanes(plan, step).astype(np.int64)
            found.append(lanes)
        return np.concatenate(found)


class Streams(Batches):
    """Chunks of several streams in turn: a group has the chunk of the same steps of each.

    A stream that has ended gives chunks without steps.
    """

    def __init__(self, streams: Sequence[SessionParallel]) -> None:
        self.streams = streams

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """See `Batches.plan`."""
        plans = [stream.plan(epoch) for stream in self.streams]
        ended = np.zeros(0, np.int64)
        return [plan[chunk] if chunk < len(plan) else ended for chunk in range(max(map(len, plans))) for plan in plans]

    def build(self, epoch: int, step: int, indices: NDArray[np.int64]) -> dict[str, Tensor]:
        """See `Batches.build`; with `rounds`, the steps of the longest chunk of the group."""
        stream = self.streams[step % len(self.streams)]
        first = step // len(self.streams) * stream.chunk
        longest = max(len(one.schedule(epoch)) for one in self.streams)
        rounds = {"rounds": torch.tensor(min(stream.chunk, longest - first))}
        if len(indices):
            return stream.build(epoch, step, indices) | rounds
        nothing = torch.zeros(0, dtype=torch.int32)
        return {"lanes": nothing, "inputs": nothing, "targets": nothing, "origins": nothing, **rounds}


def _lanes(plan: Schedule, step: int) -> NDArray[np.int32]:
    """The open lanes of a step that is not full."""
    base = plan.offsets[plan.full]
    return plan.lanes[plan.offsets[step] - base : plan.offsets[step + 1] - base]


def _counted(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... up to each length, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
