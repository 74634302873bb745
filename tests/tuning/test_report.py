"""The report of a search: what it shows, and that it loads and runs nothing."""

import re
from pathlib import Path
from typing import Any

from modalrec.run import Run
from modalrec.tuning.build import list_field, number_field
from modalrec.tuning.report import importances, write_report
from tests.tuning.small import experiment

RUN = Run("tune", quiet=True)
FIELDS = [number_field("x", "double", 0, 1, 0.05), number_field("n", "int", 1, 8), list_field("word", ["<a>", "b"])]


def row(number: int, **changes: Any) -> dict[str, Any]:
    parameters = {"x": f"{number / 20:g}", "n": str(1 + number % 8), "word": "<a>" if number % 2 else "b"}
    known = {"trial": number, "state": "succeeded", "value": number / 20, "parameters": parameters, "metrics": {}}
    return {**known, "epochs": [], "seconds": 60.0, "error": None, **changes}


def test_it_shows_history_importances_slices_and_every_trial(tmp_path: Path) -> None:
    listed = [row(number) for number in range(12)]
    listed.append(row(12, state="failed", value=None, error="error: <script>alert(1)</script>"))
    given = experiment("print('score=1')", fields=FIELDS)
    write_report(tmp_path, given, listed, RUN)
    html = (tmp_path / "report.html").read_text()
    assert "The greatest score is 0.5500, with x 0.55, n 4, word &lt;a&gt;." in html
    assert html.count('<svg class="chart"') == 1 + len(FIELDS)
    trials = re.findall(r"<tr><td>(\d+)</td><td>(succeeded|failed)</td>", html)
    assert [int(number) for number, _ in trials] == list(range(13))
    assert "error: &lt;script&gt;" in html
    assert "<script" not in html
    assert not re.search(r"(src|href)=", html)
    shares = importances(given, listed)
    assert shares[0][0] == "x", "the one that decides"
    assert abs(sum(share for _, share in shares) - 1) < 1e-6


def test_a_search_without_success_has_a_report(tmp_path: Path) -> None:
    given = experiment("print('score=1')", fields=FIELDS)
    write_report(tmp_path, given, [row(0, state="failed", value=None, error="no")], RUN)
    html = (tmp_path / "report.html").read_text()
    assert "No trial has succeeded" in html
    assert "History" not in html
