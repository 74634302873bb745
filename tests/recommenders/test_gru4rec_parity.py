"""GRU4Rec on real sessions, as a user runs it, is as good as the authors' code."""

from pathlib import Path

from tests.benchmarks.gru4rec_parity import AUTHORS, measure
from tests.raw import real_data


def test_quality_on_yoochoose_is_the_authors(tmp_path: Path) -> None:
    """One seed; over five the standard deviation of both metrics is near .001 (`make bench ARGS=gru4rec_parity`)."""
    metrics = measure(tmp_path / "run", real_data("sessions"), seed=0)
    for name in ("recall_20", "mrr_20"):
        assert abs(metrics[name] - AUTHORS[name]) < 0.010, name
    assert metrics["users"] == 3416
    assert metrics["predictions"] == 10152
