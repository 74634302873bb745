"""Sequence-aware evaluation: a known user's state goes on from the last event of training, target after target."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TEST, TRAIN
from modalrec.evaluation.ranking import rank
from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.run import Run
from tests.recommenders.gru4rec_cases import build, uniform

MODES = {
    "constrained": {"layers": [8, 6]},
    "separate": {"layers": [8], "embedding": "separate", "embedding_size": 5},
    "none": {"layers": [8], "embedding": "none"},
    "none_two_layers": {"layers": [8, 6], "embedding": "none"},
    "content": {"layers": [8], "content": "sum"},
}
N = 12


def model_of(mode: str) -> GRU4Rec:
    torch.manual_seed(0)
    content = uniform(1, N, 4).astype(np.float32) if mode == "content" else None
    model = build(N, content, initialisation="random", dropout_p_embed=0.5, dropout_p_hidden=0.5, **MODES[mode])
    with torch.no_grad():
        model.item_bias.uniform_(-1, 1)
    return model.eval()


@torch.no_grad()
def stepped(model: GRU4Rec, history: np.ndarray) -> np.ndarray:
    """The state after a history, one event at a time."""
    hidden = model.fresh(1)
    for item in history:
        top, hidden = model.advance(model.input_rows(torch.tensor([int(item)])), hidden)
    return top[0].numpy()


def compare(model: GRU4Rec, histories: list[np.ndarray]) -> None:
    states_BD, _ = model.prepare(histories)
    for row, history in enumerate(histories):
        np.testing.assert_allclose(states_BD[row], stepped(model, history), rtol=1e-5, atol=1e-6)


def prefixes(*items: int, begin: int = 1) -> list[np.ndarray]:
    whole = np.array(items, np.int32)
    return [whole[:end] for end in range(begin, len(whole) + 1)]


@pytest.mark.parametrize("mode", MODES)
def test_states_of_nested_histories_are_those_of_stepping_one_by_one(mode: str) -> None:
    compare(model_of(mode), prefixes(3, 1, 4, 1, 5, 9, 2, 6) + prefixes(5, 3, begin=2) + prefixes(5, 8, 9, 7))


@pytest.mark.parametrize(
    "histories",
    [
        pytest.param([np.array([4], np.int32)], id="single"),
        pytest.param([np.array([4, 2], np.int32)] * 3, id="repeated"),
        pytest.param(prefixes(1, 2, 3) + prefixes(1, 2, 3), id="a run twice"),
        pytest.param(prefixes(1, 2, 3)[::-1], id="backwards"),
        pytest.param([*prefixes(1, 2), *prefixes(7, 7, 7, 7), np.array([1], np.int32)], id="one item over and over"),
        pytest.param([np.array([1, 2], np.int32), np.array([1, 3, 2], np.int32)], id="longer but no prefix"),
    ],
)
def test_states_of_batches_of_any_kind(histories: list[np.ndarray]) -> None:
    compare(model_of("constrained"), histories)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=12))
def test_states_of_shuffled_batches(histories: list[list[int]]) -> None:
    """Three items alone, so that many histories are prefixes of others by chance."""
    compare(model_of("constrained"), [np.array(history, np.int32) for history in histories])


def test_a_target_of_a_known_user_goes_on_from_the_last_event_of_training() -> None:
    """Not from an empty state, as a session that training never saw does."""
    items = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5], np.int32)
    split = np.array([TRAIN] * 5 + [TEST, TEST, TEST, TEST], np.int8)
    data = Sequences(items, np.array([0, 7, 9]), split, N, "temporal")
    targets = data.targets(TEST, every=True)
    model = model_of("constrained")
    states_BD, _ = model.prepare(data.histories(targets))
    wanted = [[3, 1, 4, 1, 5], [3, 1, 4, 1, 5, 9], [6]]
    assert targets.items.tolist() == [9, 2, 5]
    np.testing.assert_allclose(states_BD, [stepped(model, np.array(history)) for history in wanted], rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_ranks_are_those_of_scores_worked_out_one_by_one(mode: str) -> None:
    items = (N * uniform(3, 60)).astype(np.int32)
    data = Sequences(
        items, np.arange(0, 61, 6), np.tile([TRAIN, TRAIN, TRAIN, TEST, TEST, TEST], 10).astype(np.int8), N, "x"
    )
    model, targets = model_of(mode), data.targets(TEST, every=True)
    found = rank(model, data, targets, mask_seen=False, k=3, run=Run("evaluate", quiet=True), exhaustive=True)
    vectors_ND = model.rows(torch.arange(N)).detach().numpy()
    for row, history in enumerate(data.histories(targets)):
        scores_N = vectors_ND @ stepped(model, history) + model.item_bias.detach().numpy()
        assert found.greater[row] == (scores_N > scores_N[targets.items[row]] + 1e-6).sum()


def test_scores_and_lists_agree() -> None:
    model = model_of("constrained")
    histories = prefixes(3, 1, 4, 1, 5)
    prepared = model.prepare(histories)
    whole_BN = model.score(prepared, 0, N)
    np.testing.assert_array_equal(model.score(prepared, 3, 8), whole_BN[:, 3:8])
    out = np.empty((5, 5), np.float32, order="F")
    model.score_into(prepared, 3, 8, out)
    np.testing.assert_allclose(out, whole_BN[:, 3:8], rtol=1e-5, atol=1e-6)
    items = np.array([0, 4, 4, 11, 2], np.int32)
    np.testing.assert_allclose(model.score_of(prepared, items), whole_BN[np.arange(5), items], rtol=1e-5, atol=1e-6)
    top = model.recommend(histories, 4, mask_seen=False)
    np.testing.assert_array_equal(top.items, np.argsort(-whole_BN, axis=1)[:, :4])
