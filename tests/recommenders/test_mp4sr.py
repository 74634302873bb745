"""MP4SR: what enters a batch, what a state knows, what a missing vector means, and what a saved model holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, load_recommender, mp4sr, save_recommender
from modalrec.recommenders._mp4sr_batches import Prefixes
from modalrec.recommenders.mp4sr import MP4SR, MP4SRConfig
from modalrec.testing.recommenders import walks
from modalrec.training.steps import GradientSteps
from modalrec.training.windows import PAD
from tests.recommenders.mp4sr_cases import build, lists_of, multimodal_space
from tests.recommenders.next_item import LENGTHS, check_windows, encoder_states, every_event_another_item

SOME = [np.array([3, 4, 5], np.int32), np.array([9], np.int32)]


def space_of(n_items: int) -> ItemSpace:
    return replace(multimodal_space(n_items), codes=None)


@given(LENGTHS, st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_finetuning_learns_from_the_items_before_the_target_alone(lengths: list[int], seed: int) -> None:
    model = build(space_of(sum(lengths) + 2)).eval()
    check_windows(model, model.encoder, lengths, seed, augment=False)


@given(LENGTHS, st.integers(0, 5))
@settings(max_examples=10, deadline=None)
def test_so_does_pretraining(lengths: list[int], seed: int) -> None:
    train = every_event_another_item(lengths)
    model = build(space_of(train.n_items + 2), drop_items=0.3).eval()
    batches = model.batches(train, 4, seed, augment=True)
    for step, indices in enumerate(batches.plan(0)):
        batch = batches.build(0, step, indices)
        before, width = encoder_states(model, model.encoder, batch), batch["items"].shape[1]
        for place in range(1, width):
            changed = torch.where(torch.arange(width) >= place, train.n_items, batch["items"])
            changed[batch["items"] == PAD] = PAD
            after = encoder_states(model, model.encoder, {**batch, "items": changed})
            torch.testing.assert_close(after[:, :place], before[:, :place])


@given(LENGTHS, st.floats(0, 0.6))
@settings(max_examples=20, deadline=None)
def test_a_prefix_ends_in_its_target_and_keeps_its_first_item(lengths: list[int], drop: float) -> None:
    train = every_event_another_item(lengths)
    batches = Prefixes(train, 5, 3, seed=1, drop_items=drop)
    targets = []
    for step, indices in enumerate(batches.plan(0)):
        for row, index in zip(batches.build(0, step, indices), indices, strict=True):
            items = row[row != PAD].tolist()
            whole = train.items[batches.starts[index] : batches.ends[index] + 1].tolist()
            assert len(items) >= 2
            assert (items[0], items[-1]) == (whole[0], whole[-1])
            assert set(items) <= set(whole)
            assert drop or items == whole
            targets.append(items[-1])
    assert sorted(targets) == sorted(set(range(train.n_items)) - set(train.offsets[:-1].tolist()))


def test_a_step_of_pretraining_reads_the_vectors_of_its_batch_alone() -> None:
    """All others are NaN here, and neither loss nor gradients are."""
    whole = multimodal_space()
    batches = build(whole).batches(walks(n_users=4).train(), 4, 0, augment=True)
    batch = batches.build(0, 0, batches.plan(0)[0])
    mine = batch["items"][batch["items"] != PAD].unique().numpy()
    assert len(mine) < 50
    model = build(replace(whole, text=_poisoned(whole.text, mine), image=_poisoned(whole.image, mine)), whiten=False)
    losses = model.loss(batch)
    losses["loss"].backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_step_of_pretraining_asks_nothing_of_the_whole_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of its lists, nor of the optimizer for IDs and kept vectors, which pre-training does not move."""
    model = build()
    batches, steps = model.batches(walks().train(), 16, 0, augment=True), GradientSteps(model, 0.01, 1.0)
    asked: list[int] = []
    monkeypatch.setattr(VectorLists, "counts", property(lambda lists: asked.append(1) or np.diff(lists.offsets)))
    monkeypatch.setattr(MP4SR, "_adapt_all", lambda *_: asked.append(1))
    steps.step(batches.build(0, 0, batches.plan(0)[0]), 1e-3)
    assert not asked
    assert steps.optimizer.state
    assert len(model.items) not in {len(one) for state in steps.optimizer.state.values() for one in (state["exp_avg"],)}


def _poisoned(lists: VectorLists | None, items: np.ndarray) -> VectorLists:
    assert lists is not None
    vectors = np.full_like(lists.vectors_VD, np.nan)
    rows, _ = lists.of(np.append(items, 0))  # padding is looked up as item 0
    vectors[rows] = lists.vectors_VD[rows]
    return replace(lists, vectors_VD=vectors)


@pytest.mark.parametrize("name", ["pooling.scores.0.weight", "adaptor.linear.weight", "adaptor.gate"])
@pytest.mark.parametrize("modality", ["text", "image"])
def test_pretraining_trains_pooling_and_adaptor_of_both_modalities(modality: str, name: str) -> None:
    model = build()
    batches = model.batches(walks().train(), 16, 0, augment=True)
    model.loss(batches.build(0, 0, batches.plan(0)[0]))["loss"].backward()
    found = dict(model.named_parameters())[f"modalities.{modality}.{name}"].grad
    assert found is not None
    assert found.abs().sum() > 0


def test_modalities_change_places_where_the_batch_says_and_nowhere_else() -> None:
    model = build().eval()
    batches = model.batches(walks().train(), 16, 0, augment=True)
    batch = batches.build(0, 0, batches.plan(0)[0])
    given_to_encoder: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: given_to_encoder.append(inputs[0].detach()))
    for exchanged in (torch.zeros_like(batch["exchanged"]), torch.ones_like(batch["exchanged"]), batch["exchanged"]):
        model.loss({**batch, "exchanged": exchanged})
    plain, crossed, mixed = (given.chunk(2) for given in given_to_encoder)
    assert torch.equal(plain[0], crossed[1])
    assert torch.equal(plain[1], crossed[0])
    there = batch["exchanged"][..., None]
    assert 0 < there.float().mean() < 1
    assert torch.equal(mixed[0], torch.where(there, plain[1], plain[0]))
    assert torch.equal(mixed[1], torch.where(there, plain[0], plain[1]))
    assert not mixed[0][batch["items"][:, :-1] == PAD].any()


def test_the_share_that_changes_places_is_drawn_for_each_batch_and_again_the_same() -> None:
    batches = build(mix_up=0.5).batches(walks().train(), 32, 7, augment=True)
    plan = batches.plan(0)
    shares = [float(batches.build(0, step, rows)["exchanged"].float().mean()) for step, rows in enumerate(plan)]
    assert max(shares) < 0.6
    assert max(shares) - min(shares) > 0.1
    assert shares == [float(batches.build(0, step, rows)["exchanged"].float().mean()) for step, rows in enumerate(plan)]


def test_a_modality_that_an_item_lacks_is_stood_in_for_by_the_other() -> None:
    model = build().eval()
    text, image = model._adapt(torch.arange(4))
    assert torch.equal(text[:2], image[:2])  # item 0 has no text, item 1 no picture
    assert not torch.isclose(text[2:], image[2:]).all(1).any()
    assert text.any(1).all()


def test_ids_of_items_without_train_events_say_nothing() -> None:
    model = build().eval()
    assert not model.known.any()
    before = model.score(model.prepare(SOME), 0, 60)
    with torch.no_grad():
        assert model.ids is not None
        model.ids.weight.normal_()
    np.testing.assert_array_equal(model.train().eval().score(model.prepare(SOME), 0, 60), before)
    model.known[7] = 1
    changed = model.train().eval().score(model.prepare(SOME), 0, 60) != before
    assert np.flatnonzero(changed.any(0)).tolist() == [7]


def test_finetuning_marks_the_items_of_train_events_and_pretraining_none() -> None:
    model, train = build(multimodal_space(70)), replace(walks().train(), n_items=70)
    model.batches(train, 16, 0, augment=True)
    assert not model.known.any()
    model.batches(train, 16, 0, augment=False)
    assert model.known.bool().tolist() == [True] * 60 + [False] * 10


def test_scores_are_the_sum_of_two_cosines_over_the_temperature() -> None:
    model = build(temperature=0.1).eval()
    with torch.inference_mode():
        vectors = model._adapt(torch.arange(60))
        states = model._encode(torch.tensor([[3, 4, 5]]), [one[None, 3:6] for one in vectors])
        cosines = [torch.cosine_similarity(state[0, -1], one) for state, one in zip(states, vectors, strict=True)]
    np.testing.assert_allclose(model.score(model.prepare(SOME[:1]), 0, 60)[0], sum(cosines) / 0.1, rtol=1e-4, atol=1e-5)


def test_a_large_catalogue_is_adapted_in_parts_to_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for rows in (4096, 7):
        monkeypatch.setattr(mp4sr, "ROWS", rows)
        model = build(adaptor_dropout=0.0)
        batches = model.batches(walks().train(), 16, 0, augment=False)
        model.loss(batches.build(0, 0, batches.plan(0)[0]))["loss"].backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_frozen_pooling_is_done_once_and_not_trained() -> None:
    model = build(frozen_pooling=True)
    calls: list[int] = []
    model.modalities["text"].pooling.register_forward_hook(lambda *_: calls.append(1))
    batches = model.batches(walks().train(), 16, 0, augment=True)
    for step, rows in enumerate(batches.plan(0)[:3]):
        model.loss(batches.build(0, step, rows))["loss"].backward()
    assert len(calls) == 1
    assert all(parameter.grad is None for parameter in model.modalities["text"].pooling.parameters())
    some = np.array([5, 0, 5, 59])
    with torch.no_grad():
        pooled = model.modalities["text"]._pool(some, torch.device("cpu"))
    torch.testing.assert_close(model.modalities["text"]._kept(some), pooled)


@pytest.mark.parametrize("changed", [{"published": True}, {"proj": True}, {"modalities": "text"}, {"experts": 0}])
def test_every_form_pretrains_and_finetunes(changed: dict[str, object]) -> None:
    model = build(**changed)
    for augment in (True, False):
        batches = model.batches(walks().train(), 16, 0, augment)
        losses = model.loss(batches.build(0, 0, batches.plan(0)[0]))
        losses["loss"].backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
    assert set(losses) == {"loss"}


def test_the_folder_of_a_model_holds_adapted_vectors_and_not_the_lists(tmp_path: Path) -> None:
    items = replace(multimodal_space(), text=lists_of([40] * 60, 12))
    save_recommender(tmp_path, build(items).eval())
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors["adapted.text"].shape == (60, 32)
    assert tensors["adapted.text"].any(1).all()
    assert max(tensor.numel() for tensor in tensors.values()) < 40 * 60 * 12
    loaded = load_recommender(tmp_path)
    with pytest.raises(ConfigError, match="no item has a vector to learn from"):
        loaded.loss(torch.tensor([[1, 2, 3]]))


def test_what_is_not_given_is_named() -> None:
    with pytest.raises(ConfigError, match="give --image_embeddings"):
        build(replace(multimodal_space(), image=None))
    assert MP4SR.edges(resolve(MP4SRConfig, {"modalities": "text"})) == {"text_embeddings"}
    with pytest.raises(ConfigError, match="leave nothing of an item"):
        resolve(MP4SRConfig, {"modalities": "none", "ids": False})
    alone = build(replace(multimodal_space(), text=None, image=None), modalities="none")
    batches = alone.batches(walks().train(), 16, 0, augment=True)
    with pytest.raises(ConfigError, match=r"pretrain\.training\.epochs=0"):
        alone.loss(batches.build(0, 0, batches.plan(0)[0]))
