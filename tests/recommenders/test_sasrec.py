"""SASRec: its losses by definition, its ways to take content in, and what only positions before may tell."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import VALID
from modalrec.errors import ConfigError
from modalrec.evaluation.item_knn import ItemKNN
from modalrec.recommenders import ItemSpace, Recommender
from modalrec.recommenders._content import whitened
from modalrec.recommenders.sasrec import SASRec, SASRecConfig
from modalrec.testing.recommenders import RecommenderContract, item_space, walks
from tests.evaluation.tiny import make_sequences
from tests.recommenders.next_item import LENGTHS, check_windows, one_code_each

SMALL = {"width": 16, "heads": 2, "dropout": 0.0, "history": 12}


def space() -> ItemSpace:
    """Items with vectors; the last has none."""
    vectors = np.random.default_rng(0).standard_normal((60, 7)).astype(np.float32)
    vectors[59] = 0
    return replace(item_space(), content=vectors)


def build(**settings: object) -> SASRec:
    torch.manual_seed(0)
    return SASRec(resolve(SASRecConfig, SMALL, settings), space()).eval()


class Contract(RecommenderContract):
    plugin = SASRec

    def build(self, seed: int = 0) -> Recommender:
        torch.manual_seed(seed)
        return SASRec(resolve(SASRecConfig, {"width": 32, "dropout": 0.0, "history": 12}, self.settings), space())


class TestSumOfIdAndContent(Contract):
    settings = {"content": "sum", "norm": "post", "positions": "rotary"}


class TestContentOfColdItems(Contract):
    settings = {"content": "sum", "cold_items": "content", "id_dropout": 0.2, "similarity": "cosine"}


class TestIdsThatStartAsContent(Contract):
    settings = {"content": "init"}


class TestNeighbours(Contract):
    settings = {"neighbours": 2.0}

    def build(self, seed: int = 0) -> Recommender:
        model = super().build(seed)
        model.observe(walks().train())
        return model


class TestContentOnly(Contract):
    settings = {"content": "only", "whiten": False, "similarity": "cosine", "width": 64}


class TestSampledSoftmax(Contract):
    settings = {"loss": "sampled_softmax", "n_sample": 30}


class TestGbce(Contract):
    settings = {"loss": "gbce", "n_sample": 30}
    training = {"epochs": 60, "batch_size": 32, "schedule": "constant"}


@given(lengths=LENGTHS, history=st.integers(1, 6), augment=st.booleans())
def test_neither_id_nor_content_of_a_target_is_in_the_encoders_input(
    lengths: list[int], history: int, augment: bool
) -> None:
    settings = {**SMALL, "content": "sum", "history": history}
    model = SASRec(resolve(SASRecConfig, settings), one_code_each(sum(lengths) + 1, content_width=4)).eval()
    check_windows(model, model.encoder, lengths, 0, augment)


@pytest.mark.parametrize("settings", [{}, {"content": "sum"}, {"content": "only", "similarity": "cosine"}])
def test_loss_is_the_mean_negative_log_likelihood_of_the_next_items(settings: dict[str, object]) -> None:
    model = build(**settings).double()
    batch = torch.tensor([[3, 4, 11, -1], [50, 51, -1, -1]])
    vectors = model.vectors()
    expected = []
    for row in batch:
        real = row[row >= 0]
        for place in range(1, len(real)):
            state = model.encode(real[None, :place], vectors)[:, -1]
            logits = model.scale * model.normalised(state) @ model.normalised(vectors).T
            expected.append(F.cross_entropy(logits, real[place][None]))
    torch.testing.assert_close(model.loss(batch)["loss"], torch.stack(expected).mean(), rtol=1e-9, atol=0)


def test_many_samples_make_the_whole_softmax() -> None:
    whole, sampled = build(), build(loss="sampled_softmax", n_sample=200_000)
    batch = torch.tensor([[3, 4, 11, 5], [50, 51, 7, 8]])
    with torch.no_grad():
        whole.ids.weight.mul_(40)
        sampled.load_state_dict(whole.state_dict())
        torch.testing.assert_close(sampled.loss(batch)["loss"], whole.loss(batch)["loss"], rtol=0.01, atol=0)


def test_neighbours_add_item_knns_scores_over_their_best() -> None:
    sequences = walks()
    plain, model = build(), build(neighbours=3.0)
    model.observe(sequences.train())
    model.load_state_dict(plain.state_dict(), strict=False)
    histories = sequences.histories(sequences.targets(VALID))[:20]
    knn = ItemKNN(sequences)
    counts = knn.score(knn.prepare(histories), 0, 60) - knn.popularity
    expected = plain.score(plain.prepare(histories), 0, 60) + 3 * counts / counts.max(1, keepdims=True)
    np.testing.assert_allclose(model.score(model.prepare(histories), 0, 60), expected, rtol=1e-4, atol=1e-5)


def test_neighbours_of_a_history_that_nobody_shares_add_nothing() -> None:
    model = build(neighbours=3.0)
    model.observe(make_sequences([[0, 1, 2, 3, 5], [4, 6, 4, 4]], 60).train())
    assert model.neighbours.shares([np.array([9], np.int32)]).nnz == 0


@pytest.mark.parametrize(
    ("calibration", "beta"), [(0.0, 1.0), (1.0, 30 / 59), (0.75, 30 / 59 * (0.25 * 59 / 30 + 0.75))]
)
def test_gbce_weighs_the_target_by_beta(calibration: float, beta: float) -> None:
    model = build(loss="gbce", n_sample=30, calibration=calibration)
    own, others = torch.tensor([0.5, -1.0]), torch.randn(2, 30)
    power = -torch.log(torch.sigmoid(own) ** beta) - torch.log(1 - torch.sigmoid(others)).sum(1)
    torch.testing.assert_close(model._gbce(own, others, 60), power / 31)


@pytest.mark.parametrize("loss", ["sampled_softmax", "gbce"])
def test_a_sampled_item_that_is_the_target_counts_once(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(loss=loss, n_sample=4)
    losses = []
    for sampled in ([7, 8, 9, 4], [7, 8, 9, 9]):
        monkeypatch.setattr(torch, "randint", lambda *_, sampled=sampled, **__: torch.tensor(sampled))
        with torch.no_grad():
            model.ids.weight[9] = -1e9 * torch.ones(16)
            losses.append(float(model.loss(torch.tensor([[3, 4]]))["loss"]))
    assert all(np.isfinite(losses))


def test_an_item_without_content_keeps_its_id_and_content_reaches_the_others() -> None:
    model = build(content="sum")
    with torch.no_grad():
        alone = model.vectors() - model.ids.weight
    assert torch.equal(alone[59], model.content.projection.bias)
    assert (alone[:59] - alone[59]).abs().sum(1).min() > 0


def without(cold: list[int]) -> Sequences:
    """Walks whose train part lacks some items."""
    sequences = walks()
    return sequences.keep(~np.isin(sequences.items, cold)).train()


def test_cold_items_are_their_content_and_no_negatives() -> None:
    model = build(content="sum", cold_items="content", similarity="cosine").train()
    train = without([7, 8])
    model.observe(train)
    with torch.no_grad():
        model.ids.weight.fill_(3.0)
        content = model.content(slice(None))
        torch.testing.assert_close(model.vectors()[[7, 8]], content[[7, 8]])
        torch.testing.assert_close(model.vectors()[[6, 9]], content[[6, 9]] + 3.0)
        batch = torch.from_numpy(train.items[:9][None].astype(np.int64))
        states = model.normalised(model.encode(batch[:, :-1], model.vectors())[0])
        warm = [item for item in range(60) if item not in (7, 8)]
        scores = states @ model.normalised(model.vectors()[warm]).T / 0.07
        wanted = F.cross_entropy(scores, torch.tensor([warm.index(item) for item in batch[0, 1:]]))
    torch.testing.assert_close(model.loss(batch)["loss"], wanted)


def test_dropped_ids_leave_the_content() -> None:
    model = build(content="sum", id_dropout=0.5).train()
    with torch.no_grad():
        model.ids.weight.fill_(3.0)
        content, vectors = model.content(slice(None)), model.vectors()
    dropped = (vectors - content).abs().sum(1) < 1e-5
    assert 10 < dropped.sum() < 50
    torch.testing.assert_close(model.eval().vectors(), content + 3.0)


def test_ids_start_as_the_leading_directions_of_content() -> None:
    model = build(content="init")
    assert model.content is None
    torch.testing.assert_close(model.ids.weight[:, :7], torch.from_numpy(0.02 * whitened(space().content)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cold_items": "content"}, "cold_items=content: an ID alone knows no content"),
        ({"content": "only", "id_dropout": 0.1}, "id_dropout=0.1: nothing is left of an item with content=only"),
    ],
)
def test_settings_that_leave_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_content_is_asked_for_by_the_settings() -> None:
    assert SASRec.edges(resolve(SASRecConfig, {})) == frozenset()
    assert SASRec.edges(resolve(SASRecConfig, {"content": "only"})) == {"embeddings"}
    with pytest.raises(ConfigError, match=r"recommender.content=sum: needs the items' vectors; give --embeddings"):
        SASRec(resolve(SASRecConfig, {"content": "sum"}), item_space())


@pytest.mark.parametrize("neighbours", [0.0, 2.0])
def test_scores_are_the_products_that_lists_are_ordered_by(neighbours: float) -> None:
    model = build(content="sum", neighbours=neighbours)
    model.observe(walks().train())
    histories = walks().histories(walks().targets(VALID))[:20]
    prepared = model.prepare(histories)
    scores = model.score(prepared, 0, 60)
    np.testing.assert_array_equal(model.score(prepared, 20, 40), scores[:, 20:40])
    chosen = np.arange(20, dtype=np.int32)
    np.testing.assert_allclose(model.score_of(prepared, chosen), scores[chosen, chosen], rtol=1e-4, atol=1e-6)
    out = np.empty((20, 60), np.float32, order="F")
    model.score_into(prepared, 0, 60, out)
    np.testing.assert_allclose(out, scores, rtol=1e-4, atol=1e-6)
    top = model.recommend(histories, 5, mask_seen=False)
    np.testing.assert_array_equal(top.scores, -np.sort(-scores, axis=1)[:, :5])


def test_only_the_latest_items_are_encoded() -> None:
    model = build(history=3)
    long, short = np.array([9, 8, 7, 1, 2, 3], np.int32), np.array([1, 2, 3], np.int32)
    np.testing.assert_array_equal(model.prepare([long])[0], model.prepare([short])[0])
