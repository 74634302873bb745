"""Session-parallel mini-batches: the authors' order, recorded and simulated; states that are carried and reset."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.sequences import Sequences
from modalrec.training.sampling import SampleStore
from modalrec.training.sessions import SessionParallel
from tests.recommenders.gru4rec_cases import SCHEDULES, reference

Step = tuple[list[int], list[int], list[int]]


def sequences(lengths: list[int], starts: list[int] | None = None) -> Sequences:
    """Every event is an item of its own, so that a batch says exactly which events it holds."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = np.arange(offsets[-1], dtype=np.int32)
    times = None if starts is None else np.array(starts, np.int64)
    return Sequences(items, offsets, np.zeros(len(items), np.int8), max(len(items), 1), "sessions", times)


def batches(data: Sequences, lanes: int, *, n_sample: int = 0, chunk: int = 3, seed: int | None = None):
    store = SampleStore(np.ones(data.n_items, np.int64), n_sample, 0.5, 10**4, 0)
    return SessionParallel(data, lanes, store, shuffle_seed=seed, chunk=chunk)


def steps_of(made: SessionParallel, epoch: int = 0) -> list[Step]:
    """Inputs, targets and fresh lanes of each step; a fake state checks that lanes go on with their own."""
    found, state = [], []
    for step, indices in enumerate(made.plan(epoch)):
        chunk = {name: value.numpy() for name, value in made.build(epoch, step, indices).items()}
        assert chunk["first"] == len(found)
        at = 0
        for lanes in chunk["lanes"]:
            inputs, targets, origins = (
                chunk[name][at : at + lanes].tolist() for name in ("inputs", "targets", "origins")
            )
            at += lanes
            for item, origin in zip(inputs, origins, strict=True):
                assert origin == -1 or state[origin] == item, "a lane goes on where it was"
            state = targets
            found.append((inputs, targets, [lane for lane, origin in enumerate(origins) if origin < 0]))
        assert at == len(chunk["inputs"])
    return found


def simulated(lengths: list[int], order: list[int], lanes: int) -> list[Step]:
    """The rule in its plainest form: walk step by step, and give free lanes the next sessions in lane order."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    waiting = [session for session in order if lengths[session] > 1]
    places = [[int(offsets[s]), int(offsets[s + 1]), True] for s in waiting[:lanes]]
    waiting = waiting[lanes:]
    found = []
    while places:
        fresh = [lane for lane, place in enumerate(places) if place[2]]
        found.append(([p[0] for p in places], [p[0] + 1 for p in places], fresh))
        going = []
        for at, end, _ in places:
            if at + 2 < end:
                going.append([at + 1, end, False])
            elif waiting:
                session = waiting.pop(0)
                going.append([int(offsets[session]), int(offsets[session + 1]), True])
        places = going
    return found


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "single_events"])
def test_session_parallel_mini_batches_come_in_the_recorded_order(name: str) -> None:
    """Inputs, targets and resets of every step, through the shrinking tail."""
    case = SCHEDULES[name]
    made = batches(sequences(case["lengths"], case["starts"]), case["lanes"], n_sample=1)
    assert [list(step) for step in steps_of(made)] == reference("schedule")["steps"][name]


def test_sessions_of_one_event_change_nothing_but_the_order_of_lanes() -> None:
    """The authors' code gives them a lane for no step at all; ours leaves them out."""
    case = SCHEDULES["single_events"]
    found = steps_of(batches(sequences(case["lengths"], case["starts"]), case["lanes"], n_sample=1))
    recorded = reference("schedule")["steps"]["single_events"]
    assert [sorted(step[0]) for step in found] == [sorted(step[0]) for step in recorded]
    fresh = [sorted(step[0][lane] for lane in step[2]) for step in found]
    assert fresh == [sorted(step[0][lane] for lane in step[2]) for step in recorded]


@given(st.lists(st.integers(0, 9), max_size=25), st.integers(1, 8), st.integers(1, 5), st.randoms())
def test_schedule_equals_a_simulation_step_by_step(lengths: list[int], lanes: int, chunk: int, random) -> None:
    starts = random.sample(range(100), len(lengths))
    made = batches(sequences(lengths, starts), lanes, n_sample=1, chunk=chunk)
    assert steps_of(made) == simulated(lengths, np.argsort(starts).tolist(), lanes)


@given(st.lists(st.integers(0, 9), max_size=25), st.integers(1, 8))
def test_without_samples_an_epoch_ends_below_two_lanes(lengths: list[int], lanes: int) -> None:
    """A lane alone has nothing to be compared with."""
    whole = simulated(lengths, list(range(len(lengths))), lanes)
    assert steps_of(batches(sequences(lengths), lanes)) == [step for step in whole if len(step[0]) >= 2]


@pytest.mark.parametrize("lanes", [4, 5, 1000])
def test_a_batch_larger_than_the_number_of_sessions(lanes: int) -> None:
    """The authors' code stops with an error."""
    found = steps_of(batches(sequences([2, 5, 3, 2]), lanes, n_sample=1))
    assert [len(step[0]) for step in found] == [4, 2, 1, 1]
    assert sorted(item for step in found for item in step[1]) == [1, 3, 4, 5, 6, 8, 9, 11]


def test_sessions_are_dealt_oldest_first_and_in_given_order_without_times() -> None:
    assert steps_of(batches(sequences([2, 2, 2], [30, 10, 20]), 1, n_sample=1)) == [
        ([2], [3], [0]),
        ([4], [5], [0]),
        ([0], [1], [0]),
    ]
    assert [step[0] for step in steps_of(batches(sequences([2, 2, 2]), 1, n_sample=1))] == [[0], [2], [4]]


def test_sessions_of_one_time_keep_their_order() -> None:
    found = steps_of(batches(sequences([2] * 40, [7] * 40), 1, n_sample=1))
    assert [step[0][0] for step in found] == list(range(0, 80, 2))


def test_order_is_the_same_every_epoch_unless_shuffled() -> None:
    data = sequences([2, 3, 4, 2, 3, 5, 2, 2])
    fixed, mixed = batches(data, 3), batches(data, 3, seed=1)
    assert steps_of(fixed, 0) == steps_of(fixed, 1)
    assert steps_of(mixed, 0) != steps_of(mixed, 1)
    again = batches(data, 3, seed=1)
    assert steps_of(again, 1) == steps_of(mixed, 1)
    assert steps_of(batches(data, 3, seed=2), 1) != steps_of(mixed, 1)


def test_shuffled_session_order_keeps_every_event() -> None:
    data = sequences([2, 3, 4, 2, 3, 5, 2, 2])
    events = [
        sorted(item for step in steps_of(batches(data, 3, n_sample=1, seed=1), e) for item in step[1]) for e in (0, 1)
    ]
    assert events[0] == events[1] == sorted(set(range(23)) - set(data.offsets[:-1].tolist()))


def test_chunks_do_not_change_what_is_in_a_step() -> None:
    data = sequences([2, 3, 4, 2, 3, 5, 2, 2, 9, 4])
    whole = steps_of(batches(data, 4, n_sample=2, chunk=1000))
    assert all(steps_of(batches(data, 4, n_sample=2, chunk=chunk)) == whole for chunk in (1, 2, 3, 7))


def test_a_chunk_can_be_built_alone() -> None:
    """A resumed run begins in the middle of an epoch."""
    data = sequences([2, 3, 4, 2, 3, 5, 2, 2, 9, 4])
    first, second = batches(data, 4, n_sample=2), batches(data, 4, n_sample=2)
    plan = first.plan(1)
    in_order = [first.build(1, step, indices) for step, indices in enumerate(plan)]
    for step in reversed(range(len(plan))):
        alone = second.build(1, step, plan[step])
        assert all(value.equal(in_order[step][name]) for name, value in alone.items())


@pytest.mark.parametrize("lengths", [[], [1, 1], [0, 0, 1]])
def test_nothing_to_learn_from_is_an_empty_plan(lengths: list[int]) -> None:
    assert len(batches(sequences(lengths), 3).plan(0)) == 0
