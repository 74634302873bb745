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
