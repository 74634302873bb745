from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modalrec.config import resolve
from modalrec.data.splits import VALID
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from modalrec.testing.recommenders import item_space, walks
from modalrec.training.windows import PAD
from tests.recommenders.encoder_decoder_cases import FORMS, build
from tests.recommenders.next_item import LENGTHS, check_windows, encoder_states, every_event_another_item, one_code_each

both_forms = pytest.mark.parametrize("form", FORMS)


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 6), augment=st.booleans(), seed=st.integers(0, 9))
def test_no_code_of_a_target_is_in_the_causal_encoders_input(
    lengths: list[int], history: int, augment: bool, seed: int
) -> None:
    model = build("causal", one_code_each(sum(lengths) + 1), history=history)
    check_windows(model, model.form.encoder, lengths, seed, augment)


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 6), augment=st.booleans(), seed=st.integers(0, 9))
def test_no_code_of_a_target_is_in_the_t5_encoders_input(
    lengths: list[int], history: int, augment: bool, seed: int
) -> None:
    """Every target is the event after the latest one of its history, and the encoder's states do not depend on it."""
    sequences = every_event_another_item(lengths)
    n_items = sequences.n_items + 1
    model = build("t5", one_code_each(n_items), history=history)
    user_of = np.repeat(np.arange(len(lengths)), lengths)
    batches = model.batches(sequences, 4, seed, augment)
    targets: list[int] = []
    for step, indices in enumerate(batches.plan(0)):
        batch = batches.build(0, step, indices)
        for row, target, first in zip(batch["history"], batch["target"], batch["first"], strict=True):
            seen = row[row != PAD].tolist()
            targets.append(int(target))
            assert seen == sorted(seen)
            assert {user_of[item] for item in (*seen, first)} == {user_of[target]}
            assert max(*seen, int(first)) < target
            assert augment or seen == list(range(int(target) - len(seen), int(target)))
        changed = {**batch, "target": torch.full_like(batch["target"], n_items - 1)}
        before = encoder_states(model, model.form.encoder, batch)
        assert torch.equal(encoder_states(model, model.form.encoder, changed), before)
    everything = sorted(set(sequences.items.tolist()) - set(sequences.offsets[:-1].tolist()))
    assert sorted(targets) == everything, "each event but a user's first is a target once"


@both_forms
def test_a_level_sees_only_the_codes_before_it(form: str) -> None:
    model = build(form).form
    states = model.encode([np.array([1, 2, 3], np.int32)])
    codes = torch.tensor([[1, 2, 0]])
    for level in range(3):
        changed = codes.clone()
        changed[0, level] += 1
        before, after = model.levels(states, codes), model.levels(states, changed)
        assert all(torch.equal(before[d], after[d]) for d in range(level + 1))
        assert all(not torch.equal(before[d], after[d]) for d in range(level + 1, 3))


@both_forms
def test_logits_are_over_the_codes_of_the_level_alone(form: str) -> None:
    model = build(form).form
    logits = model.levels(model.encode([np.array([1], np.int32)]), torch.zeros(1, 3, dtype=int))
    assert [of_level.shape[-1] for of_level in logits] == [8, 8, 2]


@both_forms
def test_loss_is_the_mean_negative_log_likelihood_of_the_next_items(form: str) -> None:
    """Checked against the definition, item by item, in float64: what serving computes of one history at a time."""
    model = build(form).double()
    rows = [[3, 4, 11], [50, 51]]
    pairs = [(row[:place], row[place]) for row in rows for place in range(1, len(row))]
    if form == "causal":
        batch: Any = torch.tensor([[3, 4, 11, PAD], [50, 51, PAD, PAD]])
    else:
        histories = torch.tensor([[*seen, *[PAD] * (3 - len(seen))] for seen, _ in pairs])
        batch = {"history": histories, "target": torch.tensor([t for _, t in pairs]), "first": histories[:, 0]}
    expected = []
    for seen, target in pairs:
        codes = model.form.codes.codes_NL[target][None]
        logits = model.form.levels(model.form.encode([np.array(seen, np.int32)]), codes)
        expected.append(sum(F.cross_entropy(logits[d], codes[:, d]) for d in range(3)))
    torch.testing.assert_close(model.loss(batch)["loss"], torch.stack(expected).mean(), rtol=1e-10, atol=0)


@both_forms
def test_exhaustive_scores_are_the_log_likelihoods_that_training_maximises(form: str) -> None:
    """Decoding with a cache, from the root of the trie, against the decoder over whole semantic IDs."""
    model = build(form).double()
    history = np.array([7, 9, 30], np.int32)
    prepared = model.prepare([history, history[:1]])
    codes = model.form.codes.codes_NL
    with torch.inference_mode():
        states = model.form.encode([history] * 60)
        logits = model.form.levels(states, codes)
        expected = sum(
            of_level.log_softmax(-1).gather(1, codes[:, d : d + 1])[:, 0] for d, of_level in enumerate(logits)
        )
    np.testing.assert_allclose(model.score(prepared, 0, 60)[0], expected, rtol=1e-10)
    np.testing.assert_array_equal(model.score(prepared, 20, 40), model.score(prepared, 0, 60)[:, 20:40])


@both_forms
@pytest.mark.parametrize("mask_seen", [True, False])
def test_a_wide_beam_is_exhaustive_search(form: str, mask_seen: bool) -> None:
    model = build(form, beam_size=60)
    histories = walks().histories(walks().targets(VALID))[:20]
    top = model.recommend(histories, 60, mask_seen=mask_seen)
    scores = model.score(model.prepare(histories), 0, 60).copy()
    for row, history in enumerate(histories):
        if mask_seen:
            scores[row, history] = -np.inf
        order = np.argsort(-scores[row], kind="stable")
        real = int((scores[row] > -np.inf).sum())
        np.testing.assert_allclose(top.scores[row][:real], scores[row][order][:real], rtol=1e-4)
        assert set(top.items[row][:real]) == set(order[:real].tolist())


@both_forms
def test_a_narrow_beam_still_fills_its_list_with_unseen_items(form: str) -> None:
    """Nodes whose items were all seen do not take beams from the others."""
    model = build(form, beam_size=5)
    history = np.arange(0, 55, dtype=np.int32)
    assert set(model.recommend([history], 5, mask_seen=True).items[0]) == set(range(55, 60))


@both_forms
def test_only_the_latest_items_are_encoded(form: str) -> None:
    model = build(form, history=3)
    long, short = np.array([9, 8, 7, 1, 2, 3], np.int32), np.array([1, 2, 3], np.int32)
    np.testing.assert_array_equal(model.score(model.prepare([long]), 0, 60), model.score(model.prepare([short]), 0, 60))


@both_forms
def test_content_is_part_of_what_is_encoded(form: str) -> None:
    rng = np.random.default_rng(0)
    space = item_space()
    vectors = [rng.standard_normal((60, 5)).astype(np.float32) for _ in range(2)]
    models = [
        build(form, ItemSpace(space.item_ids, space.titles, space.codes, space.codebook_sizes, v), content="sum")
        for v in vectors
    ]
    first, second = (model.score(model.prepare([np.array([1, 2], np.int32)]), 0, 60) for model in models)
    assert not np.allclose(first, second)
    assert EncoderDecoder.edges(models[0].config) == {"codes", "embeddings"}
    assert EncoderDecoder.edges(build(form).config) == {"codes"}
    with pytest.raises(ConfigError, match="content=sum: needs the items' vectors; give --embeddings"):
        build(form, content="sum")


@both_forms
def test_refuses_a_catalogue_without_codes_and_lists_longer_than_the_beam(form: str) -> None:
    with pytest.raises(ConfigError, match="give --codes"):
        build(form, ItemSpace(["a"], ["A"]))
    with pytest.raises(ConfigError, match="beam_size: 5 beams cannot give lists of 6; ask for 5 items at most"):
        build(form, beam_size=5).recommend([np.array([1], np.int32)], 6, mask_seen=True)


def test_heads_divide_the_width_but_for_t5s() -> None:
    with pytest.raises(ConfigError, match="heads=3 does not divide width=16"):
        resolve(EncoderDecoderConfig, {"width": 16, "heads": 3})
    assert resolve(EncoderDecoderConfig, {"width": 16, "heads": 3, "form": "t5"}).heads == 3
