"""The contract of models of rows: what every plug-in must keep, for its author to inherit as tests.

A plug-in's author writes `class TestMine(RowModelContract): plugin = Mine` and gets all of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modalrec.artifacts.codes import CodeGroup
from modalrec.config import Config, resolve
from modalrec.data.features import Bag, Features, Field
from modalrec.data.popularity import LEVELS
from modalrec.data.rows import Rows
from modalrec.data.splits import TEST, TRAIN, VALID
from modalrec.evaluation.ctr import auc
from modalrec.evaluation.predictions import predict
from modalrec.recommenders import ItemSpace, load_recommender, save_recommender
from modalrec.recommenders._row_space import RowSpace
from modalrec.recommenders._rows import RowModel
from modalrec.run import Run
from modalrec.testing.configs import ConfigContract
from modalrec.training.loop import TrainingConfig, fit

EVENTS = 24
"""Events of a user."""
GENRES = 4


class Tastes(NamedTuple):
    """Users who like the items of one genre, sorted by user and time.

    Attributes:
        users: [E].
        items: [E].
        times: [E].
        labels: [E] 1 for most items of the user's genre, and few others.
        split: [E] the last sixth of a user's events is for test, the sixth before for validation.
        genres: [N] from 1.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    labels: NDArray[np.int8]
    split: NDArray[np.int8]
    genres: NDArray[np.int32]


def tastes(n_users: int = 150, n_items: int = 40, seed: int = 0) -> Tastes:
    """Draws users whose likes follow from what they liked before, and hardly from what others like."""
    rng = np.random.default_rng(seed)
    genres = (1 + np.arange(n_items) % GENRES).astype(np.int32)
    liked = np.repeat(rng.integers(1, GENRES + 1, n_users), EVENTS)
    users = np.repeat(np.arange(n_users, dtype=np.int32), EVENTS)
    items = np.concatenate([rng.choice(n_items, EVENTS, replace=False) for _ in range(n_users)]).astype(np.int32)
    times = np.concatenate([np.sort(rng.choice(10_000, EVENTS, replace=False)) for _ in range(n_users)])
    labels = (rng.random(len(users)) < np.where(genres[items] == liked, 0.95, 0.05)).astype(np.int8)
    sixth = np.tile(np.arange(EVENTS) // (EVENTS // 6), n_users)
    split = np.where(sixth < 4, TRAIN, np.where(sixth < 5, VALID, TEST)).astype(np.int8)
    return Tastes(users, items, times, labels, split, genres)


def taste_rows(given: Tastes) -> Rows:
    """The same as rows: genres as a category and as bags, an age, a country, and a level of events and one of rows."""
    liked = given.labels == 1
    before = np.cumsum(liked) - liked
    n_items, n_users = len(given.genres), int(given.users[-1]) + 1
    rng = np.random.default_rng(1)
    levels = rng.integers(1, LEVELS, len(given.users)).astype(np.uint8)
    ages = np.where(np.arange(n_items) % 7, np.arange(n_items), np.nan).astype(np.float32)
    tags = np.stack([given.genres, given.genres + GENRES], 1).reshape(-1).astype(np.int32)
    features = (
        Features()
        .with_field(Field("genre", "item", "category", GENRES + 1), given.genres)
        .with_field(Field("tags", "item", "bag", 2 * GENRES + 1), Bag(tags, np.arange(0, 2 * n_items + 1, 2)))
        .with_field(Field("age", "item", "number"), ages)
        .with_field(Field("country", "user", "category", 3), rng.integers(0, 3, n_users).astype(np.int32))
        .with_field(Field("views_level", "event", "category", LEVELS, popularity=True))
        .with_field(Field("hour", "row", "number"))
    )
    return Rows(
        users=given.users,
        items=given.items,
        labels=given.labels,
        split=given.split,
        begins=before[np.searchsorted(given.users, given.users)],
        ends=before,
        past=given.items[liked],
        n_users=n_users,
        n_items=n_items,
        split_name="random",
        features=features,
        values={"event_views_level": levels, "row_hour": rng.random(len(given.users)).astype(np.float32)},
        past_values={"event_views_level": levels[liked]},
        ratings=1.0 + 4.0 * given.labels.astype(np.float32),
        timestamps=given.times,
    )


def taste_space(given: Tastes, rows: Rows) -> RowSpace:
    """What a model may know of them, with two groups of codes: the genre at three slots, noise from one codebook."""
    n_items = len(given.genres)
    noise = np.random.default_rng(2).integers(0, 16, (n_items, 20)).astype(np.int32)
    genre = np.repeat(given.genres[:, None] - 1, 3, 1).astype(np.int32)
    groups = {"text": CodeGroup(genre, (GENRES,) * 3), "image": CodeGroup(noise, (16,) * 20, shared=True)}
    items = ItemSpace([f"item-{row}" for row in range(n_items)], [f"Item {row}" for row in range(n_items)])
    return RowSpace.of(items, [f"user-{row}" for row in range(rows.n_users)], rows, groups)


class RowModelContract(ConfigContract):
    """Tests that every model of rows passes; see the module's text."""

    plugin: type[RowModel]
    settings: dict[str, Any] = {}
    training: dict[str, Any] = {"epochs": 12, "batch_size": 64, "learning_rate": 3e-3, "patience": 0}
    floor = 0.85
    """AUC of the test rows that the model must reach."""

    @pytest.fixture
    def config(self) -> Config:
        """The small configuration, for the tests that all plug-ins share."""
        return self.resolved()

    def rows(self) -> Rows:
        """All rows."""
        return taste_rows(tastes())

    def build(self, rows: Rows, seed: int = 0) -> RowModel:
        """A small model with random weights."""
        torch.manual_seed(seed)
        return self.plugin(self.resolved(), taste_space(tastes(), rows))

    def resolved(self) -> Any:
        """The small configuration."""
        return resolve(self.plugin.Config, self.settings)

    def test_gradients_reach_every_parameter(self) -> None:
        rows = self.rows()
        model = self.build(rows).train()
        batches = model.batches(rows, rows.of(TRAIN, model.task), 256, 0)
        losses = model.loss(batches.build(0, 0, batches.plan(0)[0]))
        assert torch.isfinite(losses["loss"])
        losses["loss"].backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_same_seed_same_bits(self) -> None:
        first, second = self.trained(self.rows(), epochs=1), self.trained(self.rows(), epochs=1)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name

    def test_saved_and_loaded_says_the_same(self, tmp_path: Path) -> None:
        rows = self.rows()
        model, places = self.build(rows), rows.of(TEST, "click")
        save_recommender(tmp_path, model)
        loaded = load_recommender(tmp_path)
        np.testing.assert_array_equal(self.predictions(model, rows, places), self.predictions(loaded, rows, places))

    def test_the_prediction_of_a_row_does_not_depend_on_the_others(self) -> None:
        rows = self.rows()
        model, places = self.build(rows), rows.of(TEST, "click")[:50]
        together = self.predictions(model, rows, places)
        alone = np.concatenate([self.predictions(model, rows, places[[row]]) for row in range(len(places))])
        np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(self.predictions(model, rows, places[::-1])[::-1], together, rtol=1e-4, atol=1e-6)

    def test_empty_histories_and_items_that_training_has_not_seen(self) -> None:
        given = tastes()
        split = np.where((given.items < 5) & (given.split == TRAIN), TEST, given.split).astype(np.int8)
        given = given._replace(split=split)
        rows = taste_rows(given)
        torch.manual_seed(0)
        model = self.plugin(self.resolved(), taste_space(given, rows))
        places = np.flatnonzero((rows.items < 5) & (rows.begins == rows.ends))
        assert len(places)
        assert np.isfinite(self.predictions(model, rows, places)).all()

    def test_learns_what_users_like_from_what_they_liked(self) -> None:
        rows = self.rows()
        places = rows.of(TEST, "click")
        predicted = self.predictions(self.trained(rows, self.training["epochs"]), rows, places)
        assert auc(rows.labels[places], predicted) > self.floor

    def trained(self, rows: Rows, epochs: int) -> RowModel:
        """The small model, trained."""
        model = self.build(rows)
        settings = {**model.training_defaults, **self.training, "epochs": epochs}
        batches = model.batches(rows, rows.of(TRAIN, model.task), settings["batch_size"], 0)
        config = TrainingConfig.model_validate(settings)
        fit(model, batches, config=config, run=Run("contract", device="cpu", quiet=True), fingerprint="contract")
        return model

    @staticmethod
    def predictions(model: RowModel, rows: Rows, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The model's predictions for rows."""
        return predict(model, rows, places, Run("contract", device="cpu", quiet=True))
