"""encoder_retrieve: what its heads learn, and that look-ups in tables give the scores of the definition."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from modalrec import compiled
from modalrec.config import resolve
from modalrec.data.splits import VALID
from modalrec.errors import ConfigError
from modalrec.evaluation.ranking import rank
from modalrec.recommenders import ItemSpace, Recommender, load_recommender, save_recommender
from modalrec.recommenders._encoder_retrieve_sums import TILES
from modalrec.recommenders.encoder_retrieve import EncoderRetrieve, EncoderRetrieveConfig
from modalrec.run import Run
from modalrec.testing.recommenders import RecommenderContract, item_space, walks
from modalrec.training.windows import PAD
from tests.recommenders.encoder_decoder_cases import colliding
from tests.recommenders.next_item import LENGTHS, check_windows, one_code_each

SMALL = {"width": 16, "heads": 2, "dropout": 0.0, "history": 12}


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to sum, in tiles that are smaller than the catalogue."""
    if request.param == "torch":
        monkeypatch.setattr(compiled, "AVAILABLE", False)
    for fast in TILES:
        monkeypatch.setitem(TILES, fast, 16)
    return str(request.param)


def space() -> ItemSpace:
    vectors = np.random.default_rng(0).standard_normal((60, 7)).astype(np.float32)
    return replace(item_space(), content=vectors)


def build(items: ItemSpace | None = None, **given: Any) -> EncoderRetrieve:
    torch.manual_seed(0)
    model = EncoderRetrieve(resolve(EncoderRetrieveConfig, SMALL, given), items or space()).eval()
    for head in model.heads:  # they begin alike
        torch.nn.init.normal_(head.linear.weight, std=0.3)
    return model


def defined(model: EncoderRetrieve, history: list[int]) -> list[torch.Tensor]:
    """log p_l of every level, from the module's equations, one history and one level at a time."""
    codes = torch.as_tensor(model.items.codes, dtype=torch.int64)
    sizes = model.items.codebook_sizes
    starts = np.cumsum([0, *sizes])
    embeddings = [model.table.weight[starts[level] : starts[level + 1]] for level in range(len(sizes))]
    items = []
    for item in history:
        parts = torch.stack([embeddings[level][codes[item, level]] for level in range(len(sizes))])
        vector = parts.mean(0) if model.config.pooling == "mean" else parts.sum(0)
        items.append(vector if model.content is None else vector + model.content(torch.tensor(item)))
    state = model.encoder(torch.stack(items)[None])[0, -1]
    found = []
    for head, embedding in zip(model.heads, embeddings, strict=True):
        moved = state + F.silu(head.linear.weight @ state + head.linear.bias)
        cosines = torch.stack([moved @ code / moved.norm() / code.norm() for code in embedding])
        found.append((cosines / model.config.temperature).log_softmax(0))
    return found


def likelihoods(model: EncoderRetrieve, history: list[int]) -> torch.Tensor:
    codes = torch.as_tensor(model.items.codes, dtype=torch.int64)
    return torch.stack([of_level[codes[:, level]] for level, of_level in enumerate(defined(model, history))]).sum(0)


class TestSumAndContent(RecommenderContract):
    plugin = EncoderRetrieve
    settings = {"width": 32, "dropout": 0.0, "history": 12, "pooling": "sum", "content": "sum", "temperature": 0.1}

    def build(self, seed: int = 0) -> Recommender:
        torch.manual_seed(seed)
        return EncoderRetrieve(resolve(EncoderRetrieveConfig, self.settings), space())


@pytest.mark.parametrize("given", [{}, {"pooling": "sum"}, {"content": "sum", "temperature": 0.2}])
def test_head_l_learns_code_l_of_the_next_item(given: dict[str, Any]) -> None:
    """The loss is the mean over positions and levels of -log p_l(code l of the item that follows), in float64."""
    model = build(**given).double()
    rows = [[3, 4, 11], [50, 51]]
    expected = []
    for row in rows:
        for place in range(1, len(row)):
            codes = model.items.codes[row[place]]
            expected += [-of_level[code] for of_level, code in zip(defined(model, row[:place]), codes, strict=True)]
    batch = torch.tensor([[3, 4, 11, PAD], [50, 51, PAD, PAD]])
    torch.testing.assert_close(model.loss(batch)["loss"], torch.stack(expected).mean(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("level", range(3))
def test_the_code_of_a_level_moves_its_head_alone(level: int) -> None:
    """Another code of one level of the target changes the gradient of that level's head and of no other."""

    def gradients(target: int) -> list[torch.Tensor]:
        model = build().double()
        model.loss(torch.tensor([[3, target]]))["loss"].backward()
        return [head.linear.weight.grad for head in model.heads]

    codes = item_space().codes
    assert codes is not None
    other = next(
        item for item in range(60) if [d for d in range(3) if codes[item, d] != codes[20, d]] == [level] and item != 3
    )
    same = [torch.equal(*pair) for pair in zip(gradients(20), gradients(other), strict=True)]
    assert same == [d != level for d in range(3)]


@settings(max_examples=30, deadline=None)
@given(lengths=LENGTHS, history=st.integers(1, 6), augment=st.booleans(), seed=st.integers(0, 9))
def test_no_code_of_a_target_is_in_the_encoders_input(
    lengths: list[int], history: int, augment: bool, seed: int
) -> None:
    model = build(one_code_each(sum(lengths) + 1), history=history)
    check_windows(model, model.encoder, lengths, seed, augment)


@pytest.mark.parametrize("n_histories", [1, 5, 40, 64, 150])
def test_scores_are_sums_over_levels_of_log_softmax(way: str, n_histories: int) -> None:
    model = build()
    sequences = walks()
    histories = sequences.histories(sequences.targets(VALID))[:n_histories]
    prepared = model.prepare(histories)
    scores = model.score(prepared, 0, 60)
    with torch.no_grad():
        expected = torch.stack([likelihoods(model, history[-12:].tolist()) for history in histories])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(model.score(prepared, 20, 40), scores[:, 20:40])
    out = np.empty((60, 192), np.float32)  # as the evaluator's tiles: rows that lie apart
    model.score_into(prepared, 0, 60, out[:, :n_histories].T)
    np.testing.assert_allclose(out[:, :n_histories].T, scores, rtol=1e-5)
    chosen = np.arange(n_histories, dtype=np.int32) % 60
    np.testing.assert_allclose(model.score_of(prepared, chosen), scores[np.arange(n_histories), chosen], rtol=1e-5)


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize("n_histories", [1, 70])
def test_lists_are_the_best_of_all_scores_of_equal_ones_the_first(way: str, n_histories: int, mask_seen: bool) -> None:
    model = build(colliding())
    sequences = walks()
    histories = sequences.histories(sequences.targets(VALID))[:n_histories]
    scores = model.score(model.prepare(histories), 0, 60).copy()
    top = model.recommend(histories, 30, mask_seen=mask_seen)
    for row, history in enumerate(histories):
        if mask_seen:
            scores[row, history] = -np.inf
        np.testing.assert_array_equal(top.items[row], np.argsort(-scores[row], kind="stable")[:30])
    np.testing.assert_array_equal(top.scores, -np.sort(-scores, axis=1)[:, :30])


def test_items_that_share_all_codes_have_equal_scores_and_ranks_are_conservative(way: str) -> None:
    model = build(colliding())
    sequences = walks()
    targets = sequences.targets(VALID)
    ranking = rank(
        model, sequences, targets, mask_seen=False, k=5, run=Run("test", quiet=True), exhaustive=True, tile=7
    )
    codes = model.items.codes
    assert codes is not None
    same = (codes[targets.items][:, None] == codes[None]).all(2).sum(1) - 1
    assert (ranking.equal >= same).all()
    assert same.max() == 20
    top = model.recommend(sequences.histories(targets), 5, mask_seen=False)
    np.testing.assert_allclose(ranking.top.scores, top.scores, rtol=1e-5)


def test_both_ways_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    names = [str(item) for item in range(3000)]
    codes = np.stack([rng.integers(0, size, 3000) for size in (256, 300, 5)], axis=1).astype(np.int32)
    model = build(ItemSpace(names, names, codes, (256, 300, 5)))
    assert model.codes.codes_NL.dtype == torch.int16
    histories = [rng.integers(0, 3000, 9).astype(np.int32) for _ in range(70)]
    fast = model.recommend(histories, 20, mask_seen=True)
    monkeypatch.setattr(compiled, "AVAILABLE", False)
    slow = model.recommend(histories, 20, mask_seen=True)
    np.testing.assert_allclose(fast.scores, slow.scores, rtol=1e-5)
    assert np.mean(fast.items == slow.items) > 0.99


def test_nothing_is_kept_for_an_item_but_a_byte_a_level() -> None:
    model = build(item_space())
    assert model.codes.codes_NL.dtype == torch.uint8
    of_items = {name: value for name, value in [*model.named_parameters(), *model.named_buffers()] if 60 in value.shape}
    assert list(of_items) == ["codes.codes_NL"]
    assert model.item_tensors == frozenset()


def test_saved_and_loaded_gives_the_same_lists(tmp_path: Path) -> None:
    model = build(content="sum")
    save_recommender(tmp_path, model)
    histories = walks().histories(walks().targets(VALID))[:70]
    before = model.recommend(histories, 10, mask_seen=True)
    after = load_recommender(tmp_path).recommend(histories, 10, mask_seen=True)
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


def test_says_what_it_lacks() -> None:
    assert EncoderRetrieve.edges(resolve(EncoderRetrieveConfig, {})) == {"codes"}
    assert EncoderRetrieve.edges(resolve(EncoderRetrieveConfig, {"content": "sum"})) == {"codes", "embeddings"}
    with pytest.raises(ConfigError, match="encoder_retrieve: needs semantic IDs; give --codes"):
        build(ItemSpace(["a"], ["A"]))
    with pytest.raises(ConfigError, match="content=sum: needs the items' vectors; give --embeddings"):
        build(item_space(), content="sum")
