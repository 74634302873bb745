"""The baseline `linear`: what a ridge regression over written-out features says, and what it may know."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import issparse

from modalrec.data.features import Bag, Features, Field
from modalrec.data.moments import FIELDS
from modalrec.data.rows import Rows
from modalrec.data.splits import TEST, TRAIN
from modalrec.evaluation import rating_line
from modalrec.evaluation.rating_baselines import baselines
from modalrec.evaluation.rating_line import PENALTY, Line, _blocks, _content
from tests.evaluation.test_rating import made

USERS, ITEMS = 40, 30
CONTENT = np.random.default_rng(3).normal(size=(ITEMS, 5)).astype(np.float32)
CONTENT[:4] = 0
"""The first four have none."""


def with_features(rows: Rows) -> Rows:
    rng = np.random.default_rng(4)
    year = rng.normal(1990, 10, ITEMS).astype(np.float32)
    year[5] = np.nan
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 3, ITEMS))])
    genres = Bag(rng.integers(1, 4, offsets[-1]).astype(np.int32), offsets)
    features = (
        Features()
        .with_field(Field("year", "item", "number"), year)
        .with_field(Field("genres", "item", "bag", 4), genres)
        .with_field(Field("job", "user", "category", 3), rng.integers(0, 3, USERS).astype(np.int32))
    )
    times = np.sort(rng.integers(0, 10**7, len(rows.users)))
    return Rows(**{**vars(rows), "features": features, "timestamps": times})


def written_out(rows: Rows, line: Line, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Every row's features side by side [B, F]."""
    owners = {"user": (rows.users, rows.trained_users()), "item": (rows.items, rows.trained_items())}
    blocks = []
    for owner, (ids, seen) in owners.items():
        found = list(_blocks(rows.features, owner, seen)) + ([_content(CONTENT, seen)] if owner == "item" else [])
        blocks += [(block.toarray() if issparse(block) else block)[ids[places]] for block in found]
    at = rows.moments().at(rows.users[places], rows.items[places], rows.timestamps[places])
    numbers = np.stack([at[one.key] for one in FIELDS], 1)
    return np.concatenate([*blocks, (numbers - line.centre_M) / line.scale_M], 1)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return with_features(made())


@pytest.fixture(scope="module")
def line(rows: Rows) -> Line:
    return Line(rows, CONTENT, rows.moments(), np.random.default_rng(0))


def test_it_says_what_the_closed_form_says(rows: Rows, line: Line) -> None:
    train, test = rows.of(TRAIN, "rating"), rows.of(TEST, "rating")
    features = written_out(rows, line, train)
    wanted = rows.ratings[train].astype(np.float64)
    gram = features.T @ features + PENALTY * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, features.T @ (wanted - wanted.mean()))
    expected = wanted.mean() + written_out(rows, line, test) @ weights
    said = line.predict(rows.users[test], rows.items[test], rows.timestamps[test])
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_ratings_of_the_test_part_change_nothing(rows: Rows, line: Line) -> None:
    test = rows.of(TEST, "rating")
    ratings = rows.ratings.copy()
    ratings[test] = 1.0
    again = Line(Rows(**{**vars(rows), "ratings": ratings}), CONTENT, rows.moments(), np.random.default_rng(0))
    asked = rows.users[test], rows.items[test], rows.timestamps[test]
    np.testing.assert_array_equal(again.predict(*asked), line.predict(*asked))


def test_content_tells_what_an_item_without_a_train_row_is_like() -> None:
    rows = with_features(made())
    ratings = np.clip(3 + 2 * CONTENT[rows.items, 0], 1, 5).astype(np.float32)
    unseen = rows.items >= 20
    rows = Rows(**{**vars(rows), "ratings": ratings, "split": np.where(unseen, TEST, TRAIN).astype(np.int8)})
    asked = rows.users[unseen], rows.items[unseen], rows.timestamps[unseen]
    found = baselines(rows, np.random.default_rng(0), CONTENT, rows.moments())

    def error(name: str) -> float:
        return float(np.square(found[name].predict(*asked) - ratings[unseen]).mean())

    assert error("linear") < 0.5 * error("biases")


def test_of_many_rows_it_goes_through_some(rows: Rows, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rating_line, "SAMPLE", len(rows.of(TRAIN, "rating")) // 2)
    fewer = Line(rows, CONTENT, rows.moments(), np.random.default_rng(0))
    assert not np.array_equal(fewer.items_N, line.items_N)
    assert np.corrcoef(fewer.items_N, line.items_N)[0, 1] > 0.5


def test_without_any_feature_it_is_the_mean() -> None:
    rows = made()
    said = Line(rows, None, None, np.random.default_rng(0)).predict(rows.users[:3], rows.items[:3], None)
    np.testing.assert_allclose(said, rows.ratings[rows.split == TRAIN].mean())
