"""The table at the end of a run."""

from pipelines.runner.table import table


def test_warm_and_cold_are_columns_where_the_model_has_them() -> None:
    metrics = {"recall_10": 0.3, "cold_recall_10": 0.1, "warm_recall_10": 0.4, "item_knn_recall_10": 0.2}
    metrics |= {"item_knn_cold_recall_10": 0.0, "item_knn_warm_recall_10": 0.25, "temporal_cold_recall_10": 0.5}
    header, model, knn, temporal = table(metrics).splitlines()
    assert header.split() == ["recall_10", "warm_recall_10", "cold_recall_10"]
    assert model.split() == ["model", "0.3000", "0.4000", "0.1000"]
    assert knn.split() == ["item", "knn", "0.2000", "0.2500", "0.0000"]
    assert temporal.split() == ["temporal", "-", "-", "0.5000"]


def test_without_cold_targets_of_the_model_there_is_no_such_column() -> None:
    lines = table({"recall_10": 0.3, "ndcg_10": 0.2, "temporal_recall_10": 0.1, "temporal_cold_recall_10": 0.0})
    assert [line.split() for line in lines.splitlines()] == [
        ["recall_10", "ndcg_10"],
        ["model", "0.3000", "0.2000"],
        ["temporal", "0.1000", "-"],
    ]


def test_models_of_rows_keep_what_they_rank() -> None:
    metrics = {"auc": 0.7, "log_loss": 0.5, "recall_10": 0.2, "popularity_recall_10": 0.1, "item_rate_auc": 0.6}
    metrics |= {"item_rate_log_loss": 0.6}
    assert [line.split() for line in table(metrics).splitlines()] == [
        ["recall_10", "auc", "log_loss"],
        ["model", "0.2000", "0.7000", "0.5000"],
        ["item", "rate", "-", "0.6000", "0.6000"],
        ["popularity", "0.1000", "-", "-"],
    ]


def test_ratings_show_their_errors_and_no_groups() -> None:
    metrics = {"rmse": 0.9, "mae": 0.7, "rmse_low": 0.8, "users_0_rmse": 1.0, "new_users_recall_10": 0.1, "mse": 0.81}
    metrics |= {"biased_mf_rmse": 0.95, "biased_mf_mae": 0.75, "biased_mf_warm_items_recall_10": 0.2}
    assert [line.split() for line in table(metrics).splitlines()] == [
        ["rmse", "mae"],
        ["model", "0.9000", "0.7000"],
        ["biased", "mf", "0.9500", "0.7500"],
    ]
