"""The contract of recommenders: what every plug-in must keep, for its author to inherit as tests.

A plug-in's author writes `class TestMine(RecommenderContract): plugin = Mine` and gets all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modalrec.config import Config, resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import VALID, leave_one_out
from modalrec.evaluation.metrics import measure
from modalrec.evaluation.popularity import Popularity
from modalrec.evaluation.ranking import rank
from modalrec.recommenders import ItemSpace, Recommender, load_recommender, save_recommender
from modalrec.run import Run
from modalrec.testing.configs import ConfigContract
from modalrec.training.loop import TrainingConfig, fit


def walks(n_items: int = 60, n_users: int = 300, seed: int = 0) -> Sequences:
    """Histories with an order to learn: from item i most users go on to i + 1, or to i + 7."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(5, 14, n_users)
    rows = []
    for length in lengths:
        steps = rng.choice([1, 7], size=length - 1, p=[0.8, 0.2])
        rows.append((rng.integers(n_items) + np.concatenate([[0], np.cumsum(steps)])) % n_items)
    users = np.repeat(np.arange(n_users, dtype=np.int32), lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(np.concatenate(rows).astype(np.int32), offsets, leave_one_out(users), n_items, "leave_one_out")


def item_space(n_items: int = 60, sizes: tuple[int, ...] = (8, 8, 2)) -> ItemSpace:
    """Items with distinct semantic IDs."""
    codes = np.stack(np.unravel_index(np.arange(n_items), sizes), axis=1).astype(np.int32)
    names = [f"item-{item}" for item in range(n_items)]
    return ItemSpace(names, [name.title() for name in names], codes, sizes)


class RecommenderContract(ConfigContract):
    """Tests that every recommender passes; see the module's text."""

    plugin: type[Recommender]
    settings: dict[str, Any] = {}
    training: dict[str, Any] = {"epochs": 30, "batch_size": 32}

    def build(self, seed: int = 0) -> Recommender:
        """A small model with random weights."""
        torch.manual_seed(seed)
        return self.plugin(resolve(self.plugin.Config, self.settings), item_space())

    @pytest.fixture
    def config(self) -> Config:
        """The small configuration, for the tests that all plug-ins share."""
        return resolve(self.plugin.Config, self.settings)

    def test_gradients_reach_every_parameter(self) -> None:
        model = self.build().train()
        batch = self.first_batch(model)
        losses = model.loss(batch)
        assert all(torch.isfinite(value).all() for value in losses.values())
        losses["loss"].backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_what_has_a_row_for_every_item_is_declared(self) -> None:
        """Else a model of another catalogue with as many items would hand on rows of other items."""
        rows = {name for name, tensor in self.build().state_dict().items() if tensor.shape[:1] == (60,)}
        assert rows <= self.plugin.item_tensors

    def test_same_seed_same_bits(self) -> None:
        first, second = self.trained(epochs=1), self.trained(epochs=1)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name

    def test_saved_and_loaded_recommends_the_same(self, tmp_path: Path) -> None:
        model = self.build().eval()
        save_recommender(tmp_path, model)
        histories = walks().histories(walks().targets(VALID))[:50]
        before = model.recommend(histories, 5, mask_seen=True)
        after = load_recommender(tmp_path).recommend(histories, 5, mask_seen=True)
        np.testing.assert_array_equal(before.items, after.items)
        np.testing.assert_array_equal(before.scores, after.scores)

    def test_recommends_real_unseen_items_once_best_first(self) -> None:
        model = self.build().eval()
        histories = walks().histories(walks().targets(VALID))[:50]
        top = model.recommend(histories, 10, mask_seen=True)
        for row, history in enumerate(histories):
            items = top.items[row]
            assert set(items) <= set(range(60)) - set(history.tolist())
            assert len(set(items)) == 10
        assert (np.diff(top.scores, axis=1) <= 0).all()

    def test_a_catalogue_that_is_nearly_all_seen(self) -> None:
        model = self.build().eval()
        top = model.recommend([np.arange(58, dtype=np.int32)], 10, mask_seen=True)
        assert set(top.items[0][:2]) == {58, 59}
        assert (top.items[0][2:] == -1).all()

    def test_lists_do_not_depend_on_the_batch(self) -> None:
        model = self.build().eval()
        histories = walks().histories(walks().targets(VALID))[:40]
        together = model.recommend(histories, 10, mask_seen=True)
        for row, history in enumerate(histories):
            alone = model.recommend([history], 10, mask_seen=True)
            np.testing.assert_allclose(alone.scores[0], together.scores[row], rtol=1e-4, atol=1e-5)

    def test_learns_the_order_of_walks(self) -> None:
        """A quality floor: well above popularity, which knows no order."""
        sequences, run = walks(), Run("contract", quiet=True)
        targets = sequences.targets(VALID)
        model = self.trained(self.training["epochs"])
        trained = measure(rank(model, sequences, targets, mask_seen=False, k=5, run=run), (1, 5))
        popular = measure(rank(Popularity(sequences), sequences, targets, mask_seen=False, k=5, run=run), (1, 5))
        assert trained["recall_1"] > 0.5
        assert trained["recall_5"] > popular["recall_5"] + 0.4

    def trained(self, epochs: int) -> Recommender:
        """The small model, trained on walks."""
        model = self.build()
        model.observe(walks().train())
        batches = model.batches(walks().train(), self.training["batch_size"], 0, augment=False)
        settings = {"learning_rate": 3e-3, **model.training_defaults, **self.training, "epochs": epochs}
        config = TrainingConfig.model_validate(settings)
        fit(model, batches, config=config, run=Run("contract", device="cpu", quiet=True), fingerprint="contract")
        return model

    def first_batch(self, model: Recommender) -> Tensor:
        """The first batch of an epoch."""
        batches = model.batches(walks().train(), self.training["batch_size"], 0, augment=False)
        batch: Tensor = batches.build(0, 0, batches.plan(0)[0])
        return batch
