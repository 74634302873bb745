"""Metrics as Katib's collector reads them; the lines of its own source are the first cases."""

from pathlib import Path

import pytest

from modalrec.tuning.collector import Collector, Follower, Observation


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("loss=0.3", "0.3"),
        ("loss=.98", ".98"),
        ("loss=-7.53e-05", "-7.53e-05"),
        ("loss=-7.53e+05", "-7.53e+05"),
        ("loss=1E0", "1E0"),
        ("loss = 12", "12"),
        ("2026-11-22T08:00:00Z loss=1 accuracy=0.5", "1"),
        ("loss=nan", ""),
    ],
)
def test_texts_are_searched_with_katibs_own_pattern(line: str, value: str) -> None:
    assert list(Collector().read([line], ["loss"])) == [("loss", value)]


def test_only_whole_names_count() -> None:
    lines = ["valid_loss=1", "loss_2=3", "a loss of 4", "[finetune] epoch 1: loss 0.5"]
    assert list(Collector().read(lines, ["loss"])) == []
    assert list(Collector().read(["loss@5=1"], ["loss@5"])) == []  # the pattern knows no @


def test_a_filter_takes_the_place_of_the_pattern() -> None:
    collector = Collector(filters=(r"\{metricName: ([\w|-]+), metricValue: ((-?\d+)(\.\d+)?)\};",))
    assert list(collector.read(["{metricName: loss, metricValue: 0.3}; loss=9"], ["loss"])) == [("loss", "0.3")]


def test_of_json_only_texts_count() -> None:
    collector = Collector("File", "/var/log/katib/metrics.json", "JSON")
    lines = ['{"loss": "0.3", "epoch": "1"}', '{"loss": 0.2}', "", '{"other": "1"}']
    assert list(collector.read(lines, ["loss"])) == [("loss", "0.3")]
    with pytest.raises(ValueError, match="Expecting value"):
        list(collector.read(["loss=1"], ["loss"]))
    with pytest.raises(ValueError, match="not a JSON object"):
        list(collector.read(["[1]"], ["loss"]))


def test_a_strategy_takes_the_least_the_greatest_or_the_last() -> None:
    seen = Observation()
    for text in ("0.1", "0.3", "", "0.2", "inf"):
        seen.add("score", text)
    assert [seen.value("score", strategy) for strategy in ("min", "max", "latest")] == [0.1, 0.3, 0.2]
    assert seen.value("loss", "min") is None


def test_a_growing_file_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    follower = Follower(path)
    assert follower.lines() == []
    path.write_text("one\ntw")
    assert follower.lines() == ["one"]
    with path.open("a") as file:
        file.write("o\nthree")
    assert follower.lines() == ["two"]
    assert follower.lines(finished=True) == ["three"]
