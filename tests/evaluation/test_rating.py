import numpy as np
import pytest

from modalrec.data.rows import Rows
from modalrec.data.splits import TEST, TRAIN
from modalrec.evaluation.rating import by_activity, errors, rmse_interval
from modalrec.evaluation.rating_baselines import ITEM_PRIOR, PASSES, USER_PRIOR, baselines, descend
from modalrec.evaluation.rating_results import summarise_ratings
from modalrec.testing.rows import taste_rows, tastes


def made(n: int = 4000, seed: int = 0) -> Rows:
    """Ratings that are a mean, biases, one factor and noise; the last fifth of the rows is for test."""
    rng = np.random.default_rng(seed)
    users, items = np.sort(rng.integers(0, 40, n)).astype(np.int32), rng.integers(0, 30, n).astype(np.int32)
    of_user, of_item = rng.normal(0, 0.5, 40), rng.normal(0, 0.5, 30)
    factor = rng.normal(0, 0.6, 40)[users] * rng.normal(0, 0.6, 30)[items]
    ratings = np.clip(3.5 + of_user[users] + of_item[items] + factor + rng.normal(0, 0.2, n), 1, 5).astype(np.float32)
    split = np.where(rng.random(n) < 0.8, TRAIN, TEST).astype(np.int8)
    split[(items == 29) & (split == TRAIN)] = TEST
    empty = np.zeros(n, np.int64)
    return Rows(
        users, items, (ratings >= 4).astype(np.int8), split, empty, empty, items[:0], 40, 30, "folds", ratings=ratings
    )


def test_errors_are_over_rows_and_not_over_batches() -> None:
    ratings, said = np.array([1, 2, 5], np.float32), np.array([1, 4, 4], np.float32)
    assert errors(ratings, said) == {"mse": pytest.approx(5 / 3), "mae": 1.0, "rmse": pytest.approx((5 / 3) ** 0.5)}
    assert np.isnan(errors(ratings[:0], said[:0])["rmse"])


def test_the_interval_holds_the_error_and_is_a_point_where_all_users_err_alike() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(50, dtype=np.int32), 4)
    ratings = rng.normal(3, 1, 200).astype(np.float32)
    found = rmse_interval(users, ratings, ratings * 0 + 3, rng, 200)
    assert found.low < errors(ratings, ratings * 0 + 3)["rmse"] < found.high
    same = rmse_interval(users, ratings, ratings + 1, rng, 200)
    assert same.low == pytest.approx(1) == same.high


def test_activity_groups_cover_the_rows_once() -> None:
    counts = np.array([0, 1, 9, 10, 49, 50, 1000])
    groups = by_activity(counts, (1, 10, 50))
    assert list(groups) == ["0", "1_to_9", "10_to_49", "50_up"]
    assert np.sum(list(groups.values()), axis=0).tolist() == [1] * 7
    assert np.flatnonzero(groups["10_to_49"]).tolist() == [3, 4]


def test_baselines_know_train_rows_alone_and_stand_in_order() -> None:
    rows = made()
    places = rows.of(TEST, "rating")
    said = {
        name: one.predict(rows.users[places], rows.items[places])
        for name, one in baselines(rows, np.random.default_rng(0)).items()
    }
    found = {name: errors(rows.ratings[places], values)["rmse"] for name, values in said.items()}
    assert found["biased_mf"] < 0.85 * found["biases"] < 0.85 * found["mean"]
    changed = rows.ratings.copy()
    changed[places] = 1.0
    again = baselines(Rows(**{**vars(rows), "ratings": changed}), np.random.default_rng(0))
    for name, one in again.items():
        np.testing.assert_array_equal(one.predict(rows.users[places], rows.items[places]), said[name])


def test_biases_are_smoothed_means_of_what_is_left() -> None:
    rows = made(300)
    train = rows.split == TRAIN
    users, items, left = rows.users[train], rows.items[train], rows.ratings[train] - rows.ratings[train].mean()
    of_user, of_item = np.zeros(40), np.zeros(30)
    for _ in range(PASSES):
        for item in range(30):
            mine = items == item
            of_item[item] = (left[mine] - of_user[users[mine]]).sum() / (ITEM_PRIOR + mine.sum())
        for user in range(40):
            mine = users == user
            of_user[user] = (left[mine] - of_item[items[mine]]).sum() / (USER_PRIOR + mine.sum())
    found = baselines(rows, np.random.default_rng(0))["biases"]
    np.testing.assert_allclose(found.users_U, of_user, atol=1e-5)
    np.testing.assert_allclose(found.items_N, of_item, atol=1e-5)


def test_a_descent_is_the_gradient_of_the_published_loss() -> None:
    """(r - mean - b_u - b_i - p_u q_i)^2 / 2 + decay / 2 (b_u^2 + b_i^2 + |p_u|^2 + |q_i|^2), one row."""
    rng = np.random.default_rng(0)
    users, items = np.array([1], np.int32), np.array([2], np.int32)
    arrays = [rng.normal(0, 1, shape) for shape in (3, 4, (3, 5), (4, 5))]
    before = [array.copy() for array in arrays]
    error = 4.0 - 3.0 - before[0][1] - before[1][2] - before[2][1] @ before[3][2]
    descend(users, items, np.array([4.0]), np.array([0]), 3.0, *arrays, 0.1, 0.2)
    assert arrays[0][1] == pytest.approx(before[0][1] + 0.1 * (error - 0.2 * before[0][1]))
    assert arrays[1][2] == pytest.approx(before[1][2] + 0.1 * (error - 0.2 * before[1][2]))
    np.testing.assert_allclose(arrays[2][1], before[2][1] + 0.1 * (error * before[3][2] - 0.2 * before[2][1]))
    np.testing.assert_allclose(arrays[3][2], before[3][2] + 0.1 * (error * before[2][1] - 0.2 * before[3][2]))
    np.testing.assert_array_equal(np.delete(arrays[2], 1, 0), np.delete(before[2], 1, 0))


def test_a_result_tells_groups_apart() -> None:
    rows = made()
    places = rows.of(TEST, "rating")
    said = rows.ratings[places] + np.where(rows.items[places] == 29, 1, 0).astype(np.float32)
    found = summarise_ratings("model", rows, places, said, rng=np.random.default_rng(0), samples=50)
    cold = int((rows.items[places] == 29).sum())
    assert found.parts["cold_items"][:2] == (cold, pytest.approx(1.0))
    assert found.parts["warm_items"].rmse == 0
    assert found.items["0"].rows == cold
    assert sum(one.rows for one in found.users.values()) == len(places)
    assert found.ratings == {}, "heights of all kinds are no groups"
    flat = found.flat()
    assert flat["rmse"] == pytest.approx((cold / len(places)) ** 0.5)
    assert flat["cold_items_rows"] == cold
    stars = taste_rows(tastes())
    heights = summarise_ratings(
        "mean", stars, places := stars.of(TEST, "rating"), stars.ratings[places] * 0 + 4,
        rng=np.random.default_rng(0), samples=50,
    )  # fmt: skip
    assert heights.ratings["5"].rmse == 1.0
    assert "mean_rating_5_rmse" in heights.flat()
    assert "mean_rating_5_rows" not in heights.flat()
