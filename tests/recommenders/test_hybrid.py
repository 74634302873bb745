"""hybrid: its two losses by definition, and cold items among its candidates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TRAIN, VALID
from modalrec.errors import ConfigError
from modalrec.recommenders import ItemSpace, Recommender, load_recommender, save_recommender
from modalrec.recommenders.hybrid import Hybrid, HybridConfig
from modalrec.testing.recommenders import RecommenderContract, item_space, walks
from modalrec.training.windows import PAD
from tests.recommenders.next_item import LENGTHS, check_windows, one_code_each

SMALL = {"width": 16, "heads": 2, "dropout": 0.0, "history": 12}


def space() -> ItemSpace:
    """Items with vectors; the last has none."""
    vectors = np.random.default_rng(0).standard_normal((60, 7)).astype(np.float32)
    vectors[59] = 0
    return replace(item_space(), content=vectors)


def build(items: ItemSpace | None = None, **given: Any) -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(resolve(HybridConfig, SMALL, given), items or space()).eval()


def events(rows: list[list[int]], n_items: int = 60) -> Sequences:
    items = np.concatenate(rows).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Sequences(items, offsets, np.full(len(items), TRAIN, np.int8), n_items, "leave_one_out")


def knows_cold(**given: Any) -> Hybrid:
    """Items 40 and above have no train event."""
    model = build(**given)
    model.observe(events([list(range(40))]))
    return model


class TestNegativesOfTheBatch(RecommenderContract):
    plugin = Hybrid
    settings = {"width": 32, "dropout": 0.0, "history": 12, "negatives": "batch"}

    def build(self, seed: int = 0) -> Recommender:
        torch.manual_seed(seed)
        return Hybrid(resolve(HybridConfig, self.settings), space())


@pytest.mark.parametrize("negatives", ["catalogue", "batch"])
def test_losses_are_those_of_the_definition(negatives: str) -> None:
    """Item by item, in float64: cosines of the items' vectors over the temperature, and codes given those before."""
    model = knows_cold(negatives=negatives, dense_weight=0.5).double()
    vectors = model.vectors(torch.arange(60))
    rows = [[3, 4, 11], [30, 31]]
    among = range(40) if negatives == "catalogue" else [4, 11, 31]
    codes, dense = [], []
    for row in rows:
        for place in range(1, len(row)):
            state = model.encode([np.array(row[:place], np.int32)])
            wanted = model.form.codes.codes_NL[row[place]][None]
            codes.append(
                sum(F.cross_entropy(of, wanted[:, d]) for d, of in enumerate(model.form.levels(state, wanted)))
            )
            cosines = torch.stack([F.cosine_similarity(state[0], vectors[item], dim=0) for item in among]) / 0.07
            dense.append(-cosines.log_softmax(0)[list(among).index(row[place])])
    losses = model.loss(torch.tensor([[3, 4, 11, PAD], [30, 31, PAD, PAD]]))
    torch.testing.assert_close(losses["codes"], torch.stack(codes).mean(), rtol=1e-9, atol=0)
    torch.testing.assert_close(losses["dense"], torch.stack(dense).mean(), rtol=1e-6, atol=0)  # vectors are float32
    torch.testing.assert_close(losses["loss"], losses["codes"] + 0.5 * losses["dense"])


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 6), augment=st.booleans())
def test_neither_codes_nor_content_of_a_target_are_in_the_encoders_input(
    lengths: list[int], history: int, augment: bool
) -> None:
    model = build(one_code_each(sum(lengths) + 1, content_width=4), history=history, negatives="batch")
    check_windows(model, model.form.encoder, lengths, 0, augment)


def dense_scores(model: Hybrid, history: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        vectors = model.vectors(torch.arange(60))
        return F.cosine_similarity(model.encode([history]), vectors, dim=1).numpy() / model.config.temperature


def softmax(scores: np.ndarray, among: list[int]) -> dict[int, float]:
    return dict(zip(among, torch.from_numpy(scores[among]).softmax(0).tolist(), strict=True))


@pytest.mark.parametrize("generated_weight", [0.0, 0.3])
@pytest.mark.parametrize("mask_seen", [True, False])
def test_lists_are_of_what_was_generated_and_all_cold_items(mask_seen: bool, generated_weight: float) -> None:
    model = knows_cold(candidates=5, beam_size=60, generated_weight=generated_weight)
    histories = walks().histories(walks().targets(VALID))[:30]
    top = model.recommend(histories, 5, mask_seen=mask_seen)
    codes = model.form.codes.codes_NL
    found_cold = 0
    for row, history in enumerate(histories):
        hidden = set(history.tolist()) if mask_seen else set()
        with torch.no_grad():  # the beam is wide enough to be exhaustive
            levels = model.form.levels(model.encode([history] * 60), codes)
            likely = sum(of.log_softmax(-1).gather(1, codes[:, d : d + 1])[:, 0] for d, of in enumerate(levels))
        order = [item for item in likely.argsort(descending=True).tolist() if item not in hidden]
        warm = [item for item in order[:5] if item < 40]
        candidates = warm + sorted(set(range(40, 60)) - hidden)
        scores = dict(enumerate(dense_scores(model, history)))
        if generated_weight:
            dense, said = softmax(dense_scores(model, history), candidates), softmax(likely.numpy(), warm)
            scores = {item: np.log(0.7 * dense[item] + 0.3 * said.get(item, 0)) for item in candidates}
        best = sorted(candidates, key=lambda item: -scores[item])[:5]
        assert top.items[row].tolist() == best
        np.testing.assert_allclose(top.scores[row], [scores[item] for item in best], rtol=1e-3, atol=1e-5)
        found_cold += sum(item >= 40 for item in best)
    assert found_cold > 30


def test_without_cold_items_the_generated_are_ordered_by_dense_score() -> None:
    model = build(candidates=5, beam_size=60, generated_weight=0)
    history = np.array([3, 4], np.int32)
    top = model.recommend([history], 5, mask_seen=False)
    np.testing.assert_allclose(top.scores[0], dense_scores(model, history)[top.items[0]], rtol=1e-4)
    wide = build(candidates=60, beam_size=60, generated_weight=0).recommend([history], 5, mask_seen=False)
    assert set(top.items[0]) != set(wide.items[0]), "with all of them as candidates the list is the dense one"
    np.testing.assert_array_equal(wide.items[0], np.argsort(-dense_scores(model, history))[:5])


def test_a_cold_item_is_found_by_its_content() -> None:
    """Item 60 is new and has the content of item 20, which follows 19 in most walks."""
    vectors = np.random.default_rng(0).standard_normal((61, 12)).astype(np.float32)
    vectors[60] = vectors[20] + 0.01
    known = walks()
    train = Sequences(known.items, known.offsets, known.split, 61, known.split_name).train()
    model = build(replace(item_space(61), content=vectors), width=32, code_dropout=0.5, generated_weight=0).train()
    model.observe(train)
    batches = model.batches(train, 32, 0, augment=False)
    assert model.cold_N.nonzero()[:, 0].tolist() == [60]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for epoch in range(12):
        for step, indices in enumerate(batches.plan(epoch)):
            optimizer.zero_grad()
            model.loss(batches.build(epoch, step, indices))["loss"].backward()
            optimizer.step()
    top = model.eval().recommend([np.array([17, 18, 19], np.int32)], 3, mask_seen=True)
    assert {20, 60} <= set(top.items[0])


def test_in_training_some_items_are_their_content_alone() -> None:
    """What goes in and what is compared with lose the same codes; when serving nothing does."""
    model, items = build(code_dropout=0.5), torch.arange(60)
    kept_N = torch.arange(60) % 2 == 0
    whole, content = model.vectors(items), model.form.codes.content(items)
    torch.testing.assert_close(model.vectors(items, kept_N), whole)
    torch.testing.assert_close(knows_cold().vectors(items[40:]), content[40:])
    torch.testing.assert_close(model.train().vectors(items, kept_N), torch.where(kept_N[:, None], whole, content))
    batch = torch.tensor([[3, 4, 11, PAD]])
    assert len({model.loss(batch)["dense"].item() for _ in range(5)}) > 1
    assert len({model.eval().loss(batch)["dense"].item() for _ in range(5)}) == 1


def test_saved_and_loaded_knows_the_cold_items_and_gives_the_same_lists(tmp_path: Path) -> None:
    model = knows_cold()
    save_recommender(tmp_path, model)
    loaded = load_recommender(tmp_path)
    histories = walks().histories(walks().targets(VALID))[:50]
    before, after = (one.recommend(histories, 10, mask_seen=True) for one in (model, loaded))
    assert loaded.cold_N.sum() == 20
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_only_what_is_declared_depends_on_the_number_of_items() -> None:
    shapes = []
    for n_items in (60, 50):
        content = np.random.default_rng(0).standard_normal((n_items, 6)).astype(np.float32)
        model = build(replace(item_space(n_items), content=content))
        shapes.append({name: value.shape for name, value in model.state_dict().items()})
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1][name]} == Hybrid.item_tensors


def test_says_what_it_lacks() -> None:
    assert Hybrid.edges(resolve(HybridConfig, {})) == {"codes", "embeddings"}
    with pytest.raises(ConfigError, match="hybrid: needs semantic IDs; give --codes"):
        build(replace(space(), codes=None))
    with pytest.raises(ConfigError, match="hybrid: needs the items' vectors; give --embeddings"):
        build(item_space())
    with pytest.raises(ConfigError, match="beam_size=10 cannot give candidates=50"):
        resolve(HybridConfig, {"beam_size": 10})
    with pytest.raises(ConfigError, match=r"hybrid\.candidates: 5 of them cannot give lists of 6; ask for fewer items"):
        build(candidates=5).recommend([np.array([1], np.int32)], 6, mask_seen=True)
