import numpy as np
import pandas as pd
import pytest

from modalrec.data.describe import describe_order, describe_sessions, describe_split
from modalrec.data.splits import FULL_ONLY, TEST, TRAIN, VALID
from tests.raw import real_data, real_ml100k


def movielens(name: str) -> pd.DataFrame:
    if name == "ml-100k":
        ratings = pd.read_csv(real_ml100k() / "ml-100k.inter", sep="\t")
    else:
        ratings = pd.read_csv(real_data("movielens") / "ml-latest-small" / "ratings.csv")[
            ["userId", "movieId", "rating", "timestamp"]
        ]
    ratings.columns = ["user", "item", "rating", "time"]
    ratings["user"] = ratings["user"].astype("category").cat.codes
    ratings["item"] = ratings["item"].astype("category").cat.codes
    return ratings.sort_values(["user", "time"], kind="stable")


@pytest.mark.parametrize(("name", "users", "trained"), [("ml-100k", 301, 109), ("ml-latest-small", 116, 28)])
def test_few_test_users_of_movielens_have_a_train_history(name, users, trained):
    """The counts that the manifest of the real data gives for a cut at 80 %."""
    ratings = movielens(name)
    cut = np.sort(ratings["time"].to_numpy())[int(0.8 * len(ratings))]
    split = np.where(ratings["time"].to_numpy() >= cut, TEST, TRAIN).astype(np.int8)
    numbers = [ratings[name].to_numpy(np.int32) for name in ("user", "item")]
    facts = describe_split(*numbers, split, int(numbers[1].max()) + 1)
    assert facts["test_targets"] + facts["test_cold_users"] == users
    assert facts["test_targets"] - facts["test_users_without_train"] == trained


@pytest.mark.parametrize(("name", "hours", "equal"), [("ml-100k", 0.82, 0.51), ("ml-latest-small", 1.30, 0.16)])
def test_the_order_of_movielens_is_called_weak(name, hours, equal):
    ratings = movielens(name)
    facts = describe_order(ratings["user"].to_numpy(np.int32), ratings["time"].to_numpy())
    assert facts["median_user_span_hours"] == pytest.approx(hours, abs=0.01)
    assert facts["equal_time_share"] == pytest.approx(equal, abs=0.005)
    assert facts["order_is_weak"] == 1


def test_the_last_event_of_one_user_and_the_first_of_the_next_are_no_neighbours():
    facts = describe_order(np.array([0, 0, 1, 1, 2], np.int32), np.array([0, 7200, 7200, 7201, 7201]))
    assert facts == {
        "median_user_span_hours": pytest.approx(1 / 3600, abs=1e-4),
        "equal_time_share": 0,
        "order_is_weak": 0,
    }
    assert describe_order(np.zeros(3, np.int32), None) == {}


def test_targets_out_of_reach_are_counted():
    users = np.array([0, 0, 0, 1, 1, 2, 3, 3], np.int32)
    items = np.array([0, 1, 0, 0, 5, 0, 1, 1], np.int32)
    split = np.array([TRAIN, TRAIN, TEST, TRAIN, TEST, TEST, VALID, TEST], np.int8)
    facts = describe_split(users, items, split, 6)
    assert facts == {
        "train_events": 3,
        "valid_events": 1,
        "valid_targets": 0,
        "valid_cold_users": 1,
        "valid_users_without_train": 0,
        "valid_unseen_items": 0,
        "test_events": 4,
        "test_targets": 3,
        "test_cold_users": 1,
        "test_users_without_train": 1,
        "test_unseen_items": 1,
    }


def test_every_event_of_a_session_but_the_first_is_a_target():
    users = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2], np.int32)
    items = np.array([0, 1, 0, 0, 5, 3, 5, 1, 5], np.int32)
    split = np.array([TRAIN, TRAIN, FULL_ONLY, VALID, VALID, FULL_ONLY, TEST, TEST, TEST], np.int8)
    facts = describe_sessions(users, items, split, 6)
    assert facts == {
        "train_events": 2,
        "train_sessions": 1,
        "train_items": 2,
        "train_targets": 1,
        "valid_events": 2,
        "valid_sessions": 1,
        "valid_items": 2,
        "valid_targets": 1,
        "valid_unseen_items": 1,
        "test_events": 3,
        "test_sessions": 1,
        "test_items": 2,
        "test_targets": 2,
        "test_unseen_items": 1,
        "full_only_events": 2,
    }
