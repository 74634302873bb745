import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from modalrec.config import resolve
from modalrec.data.splits import VALID
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from modalrec.testing.recommenders import item_space, walks


def build(**settings: object) -> EncoderDecoder:
    torch.manual_seed(0)
    config = EncoderDecoderConfig.model_validate({"width": 16, "heads": 2, "dropout": 0, "history": 12, **settings})
    return EncoderDecoder(config, item_space()).eval()


@given(place=st.integers(1, 9), other=st.integers(0, 59))
def test_a_state_knows_nothing_of_later_items(place: int, other: int) -> None:
    """The target of position t is item t + 1; if it reached the encoder's state at t, training would learn to copy."""
    model = build()
    items = torch.arange(10)[None]
    changed = items.clone()
    changed[0, place] = other
    with torch.no_grad():
        before, after = model.encode(items), model.encode(changed)
    assert torch.equal(before[:, :place], after[:, :place])


def test_a_level_sees_only_the_codes_before_it() -> None:
    model = build()
    state = torch.randn(1, 16)
    codes = torch.tensor([[1, 2, 0]])
    for level in range(3):
        changed = codes.clone()
        changed[0, level] += 1
        before, after = model._levels(state, codes), model._levels(state, changed)
        assert all(torch.equal(before[d], after[d]) for d in range(level + 1))
        assert all(not torch.equal(before[d], after[d]) for d in range(level + 1, 3))


def test_logits_are_over_the_codes_of_the_level_alone() -> None:
    assert [logits.shape[-1] for logits in build()._levels(torch.zeros(1, 16), torch.zeros(1, 3, dtype=int))] == [
        8,
        8,
        2,
    ]


def test_loss_is_the_mean_negative_log_likelihood_of_the_next_items() -> None:
    """Checked against the definition, item by item, in float64."""
    model = build().double()
    batch = torch.tensor([[3, 4, 11, -1], [50, 51, -1, -1]])
    expected = []
    for row in batch:
        real = row[row >= 0]
        for place in range(1, len(real)):
            state = model.encode(real[None, :place])[:, -1]
            codes = model.codes_NL[real[place]][None]
            logits = model._levels(state, codes)
            expected.append(sum(F.cross_entropy(logits[d], codes[:, d]) for d in range(3)))
    torch.testing.assert_close(model.loss(batch)["loss"], torch.stack(expected).mean(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_wide_beam_is_exhaustive_search(mask_seen: bool) -> None:
    model = build(beam_size=60)
    histories = walks().histories(walks().targets(VALID))[:20]
    top = model.recommend(histories, 60, mask_seen=mask_seen)
    scores = model.score(model.prepare(histories), 0, 60)
    for row, history in enumerate(histories):
        if mask_seen:
            scores[row, history] = -np.inf
        order = np.argsort(-scores[row], kind="stable")
        real = int((scores[row] > -np.inf).sum())
        np.testing.assert_allclose(top.scores[row][:real], scores[row][order][:real], rtol=1e-4)
        assert set(top.items[row][:real]) == set(order[:real].tolist())


def test_a_narrow_beam_still_fills_its_list_with_unseen_items() -> None:
    """Nodes whose items were all seen do not take beams from the others."""
    model = build(beam_size=5)
    history = np.arange(0, 55, dtype=np.int32)
    assert set(model.recommend([history], 5, mask_seen=True).items[0]) == set(range(55, 60))


def test_scores_of_a_tile_do_not_depend_on_the_tile() -> None:
    model = build()
    prepared = model.prepare([np.array([1, 2, 3], np.int32)])
    whole = model.score(prepared, 0, 60)
    np.testing.assert_allclose(model.score(prepared, 20, 40), whole[:, 20:40], rtol=1e-5)


def test_only_the_latest_items_are_encoded() -> None:
    model = build(history=3)
    long, short = np.array([9, 8, 7, 1, 2, 3], np.int32), np.array([1, 2, 3], np.int32)
    np.testing.assert_array_equal(model.prepare([long]), model.prepare([short]))


def test_refuses_a_catalogue_without_codes_and_lists_longer_than_the_beam() -> None:
    with pytest.raises(ConfigError, match="give --codes"):
        EncoderDecoder(EncoderDecoderConfig(), ItemSpace(["a"], ["A"]))
    with pytest.raises(ConfigError, match="heads=3 does not divide width=16"):
        resolve(EncoderDecoderConfig, {"width": 16, "heads": 3})
    with pytest.raises(ConfigError, match="beam_size: 5 beams cannot give lists of 6"):
        build(beam_size=5).recommend([np.array([1], np.int32)], 6, mask_seen=True)
