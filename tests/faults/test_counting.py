"""The counting itself: too few cases and rows without a guard are told, and a part of the table is left alone."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.faults import __main__ as suite
from tests.faults import counting
from tests.faults.counting import ROWS, Count


def full() -> Count:
    return Count(Counter({name: row.least for name, row in ROWS.items()}), Counter(dict.fromkeys(ROWS, 1)))


def report(outcome: str = "passed", when: str = "call", **properties: object) -> SimpleNamespace:
    noted = list(properties.items())
    return SimpleNamespace(passed=outcome == "passed", when=when, user_properties=noted)


def test_every_row_is_held_to_its_promise() -> None:
    assert full().short() == []
    for name, row in ROWS.items():
        count = full()
        count.cases[name] -= 1
        assert count.short() == [f"{name}: {row.least - 1} cases, {row.least} are promised"]
        assert f"| {row.least:,} | {row.least - 1:,} | 1 |" in count.table()
        count = full()
        count.guards[name] = 0
        assert count.short() == [f"{name}: no test takes its guard out"]


def test_only_what_passed_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Count()
    monkeypatch.setattr(counting, "COUNT", count)
    reports = [
        report(fault="kill"),
        report(fault="kill", cases=5),
        report(fault="kill", when="setup"),
        report(fault="kill", outcome="failed"),
        report(fault="kill", outcome="skipped", when="setup"),
        report(guard="kill", fault="kill"),
        report(),
    ]
    for each in reports:
        counting.pytest_runtest_logreport(each)  # type: ignore[arg-type]
    assert (count.cases, count.guards, count.missed) == (Counter(kill=6), Counter(kill=1), 2)


@pytest.mark.parametrize(("whole", "status"), [(True, pytest.ExitCode.TESTS_FAILED), (False, pytest.ExitCode.OK)])
def test_a_session_with_the_whole_table_and_too_few_cases_fails(
    whole: bool, status: pytest.ExitCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = full()
    count.cases["kill"] = 1 if whole else 0
    count.cases += Counter()  # without the rows that have none
    monkeypatch.setattr(counting, "COUNT", count)
    monkeypatch.setattr(counting, "TABLE", tmp_path / "faults.md")
    session = SimpleNamespace(config=SimpleNamespace(), exitstatus=pytest.ExitCode.OK)
    wrapper = counting.pytest_sessionfinish(session)  # type: ignore[arg-type]
    next(wrapper)
    assert next(wrapper, None) is None
    assert session.exitstatus == status


def test_every_row_has_cases_and_a_guard_somewhere() -> None:
    texts = "".join(Path(path).read_text(encoding="utf-8") for path in suite.modules())
    for name in ROWS:
        assert f'mark.fault("{name}")' in texts
        assert f'mark.guard("{name}")' in texts
