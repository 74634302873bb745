"""Codes without a position level: items that share a semantic ID are listed together or not at all."""

import numpy as np
import pytest

from modalrec.data.sequences import Sequences
from modalrec.data.splits import VALID
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.ranking import rank
from modalrec.run import Run
from modalrec.testing.recommenders import walks
from tests.recommenders.encoder_decoder_cases import FORMS, build, colliding

both_forms = pytest.mark.parametrize("form", FORMS)
RUN = Run("contract", quiet=True)


def group_of(item: int) -> set[int]:
    codes = colliding().codes
    assert codes is not None
    return set(np.flatnonzero((codes == codes[item]).all(1)).tolist())


@both_forms
@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("k", [1, 2, 5, 10, 25, 60])
def test_recall_of_lists_is_that_of_an_exhaustive_conservative_ranking(form: str, mask_seen: bool, k: int) -> None:
    """A wide beam, so that collisions alone could make a difference; every cut-off up to the list's length."""
    sequences = walks()
    model = build(form, colliding(), beam_size=60)
    targets = sequences.targets(VALID)
    lists, exhaustive = (
        rank(model, sequences, targets, mask_seen=mask_seen, k=k, run=RUN, exhaustive=exhaustive)
        for exhaustive in (False, True)
    )
    ours, exact = lists.ranks("conservative"), exhaustive.ranks("conservative")
    np.testing.assert_array_equal(np.where(ours <= k, ours, 0), np.where(exact <= k, exact, 0))
    assert measure(lists, (k,))[f"recall_{k}"] == measure(exhaustive, (k,))[f"recall_{k}"]
    if 5 <= k <= 25:
        cut = exhaustive.ranks("standard") <= k
        assert (cut & (exact > k)).any(), "some targets are in by luck alone"


@both_forms
def test_groups_are_whole_and_end_before_the_first_that_overruns(form: str) -> None:
    model = build(form, colliding(), beam_size=60)
    histories = walks().histories(walks().targets(VALID))[:40]
    scores = model.score(model.prepare(histories), 0, 60)
    top = model.recommend(histories, 10, mask_seen=True)
    for row, history in enumerate(histories):
        seen = set(history.tolist())
        listed = [item for item in top.items[row].tolist() if item >= 0]
        for item in listed:
            assert group_of(item) - seen <= set(listed)
            assert len({float(top.scores[row][listed.index(other)]) for other in group_of(item) - seen}) == 1
        rest = [item for item in np.argsort(-scores[row], kind="stable").tolist() if item not in seen | set(listed)]
        if rest:
            assert len(listed) + len(group_of(rest[0]) - seen) > 10, "the next group did not fit"
        assert (top.scores[row][len(listed) :] == -np.inf).all()


@both_forms
def test_seen_items_leave_the_rest_of_their_group(form: str) -> None:
    """21 items share an ID; with 19 of them seen, the other two fit."""
    model = build(form, colliding(), beam_size=60)
    large = sorted(group_of(40))
    history = np.array([*large[:19], *range(33), *range(54, 60)], np.int32)
    assert set(model.recommend([history], 2, mask_seen=True).items[0].tolist()) == set(large[19:])
    assert model.recommend([history], 1, mask_seen=True).items[0].tolist() == [-1]


@both_forms
def test_items_with_one_semantic_id_have_one_score(form: str) -> None:
    scores = build(form, colliding()).score(build(form, colliding()).prepare([np.array([1, 50], np.int32)]), 0, 60)
    codes = colliding().codes
    assert codes is not None
    for item in range(60):
        assert len(set(scores[0][sorted(group_of(item))].tolist())) == 1
    assert len(set(scores[0].tolist())) == len(np.unique(codes, axis=0))


def test_planted_collisions_are_there() -> None:
    sequences: Sequences = walks()
    sizes = np.array([len(group_of(item)) for item in range(sequences.n_items)])
    assert set(sizes.tolist()) == {1, 3, 21}


@both_forms
def test_equal_items_are_listed_in_the_order_of_a_ranking_by_all_scores(form: str) -> None:
    """So that the agreement of both, which compares lists of ten items, is not about the order inside a group."""
    sequences = walks()
    model = build(form, colliding(), beam_size=60)
    targets = sequences.targets(VALID)
    lists, exhaustive = (
        rank(model, sequences, targets, mask_seen=True, k=60, run=RUN, exhaustive=exhaustive).top
        for exhaustive in (False, True)
    )
    np.testing.assert_array_equal(lists.items, exhaustive.items)


@both_forms
def test_equal_scores_of_different_ids_are_cut_like_one_group(form: str) -> None:
    """A model that knows nothing: all items are equal, so a list has room for all of them or for none."""
    model = build(form, colliding(), beam_size=60)
    for parameter in model.parameters():
        parameter.data.zero_()
    history = [np.array([1, 2, 3], np.int32)]
    assert (model.recommend(history, 57, mask_seen=True).items >= 0).all()
    assert (model.recommend(history, 56, mask_seen=True).items == -1).all()
