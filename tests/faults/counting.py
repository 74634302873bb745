"""Counts the cases of the fault suite by row of its table, writes the table, and fails where a row has too few.

A test takes part by `@pytest.mark.fault("row")`, wherever it lies: one test is one case, unless it counts them itself
(`record_property("cases", 20)`). `@pytest.mark.guard("row")` marks one that takes a guard out and sees the check fail.
`tests/conftest.py` takes the hooks from here, so that both `make faults` and `make test` count.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "out" / "faults.md"


@dataclass(frozen=True)
class Row:
    """One kind of fault: what is done, what is promised, and the fewest cases that show it."""

    fault: str
    promise: str
    least: int


ROWS = {
    "kill": Row(
        "SIGKILL at any moment of quantize, fuse, pretrain, finetune of every model",
        "the resumed result equals the uninterrupted one bit for bit (CPU): weights, optimizer, RNG, data order",
        200,
    ),
    "terminate": Row("SIGTERM", "a checkpoint is written, exit code 143, a retried step resumes", 6),
    "atomic": Row(
        "killed inside write, fsync, rename of artifact, checkpoint, embedding shard",
        "the old one intact, or absent; never half",
        60,
    ),
    "damaged": Row(
        "checkpoint or artifact truncated, bit flipped, of another config or schema version",
        "found by digest or fingerprint; the one before is used, or a clear refusal",
        100,
    ),
    "store": Row(
        "the store answers 500, 503, 429, resets, truncates, hangs, is empty, cuts an upload",
        "bounded retries, then one error naming bucket and key; never a partial or wrong artifact",
        180,
    ),
    "store_killed": Row("the store killed (-9) in the middle of a run", "the run goes on or resumes; nothing lost", 5),
    "openai": Row(
        "OpenAI: 429, 5xx, timeout, reset; damaged rows; truncated JSON; 401, quota; a batch failed in part",
        "finished requests are kept, a rerun pays for the rest; rows by index; 401 and quota stop at once",
        130,
    ),
    "archives": Row(
        "zip, tar, rar: traversal, links, devices, too many entries, bombs, nested, encrypted, truncated",
        "nothing outside the folder, limits held, the entry named",
        40,
    ),
    "images": Row(
        "pictures: bombs, truncated, wrong suffix, animated, CMYK, 16 bit, EXIF, SVG, empty, 200 mutated",
        "decoded under limits, set aside and counted; the run goes on below a stated share",
        240,
    ),
    "tables": Row(
        "tables: columns missing, wrong types, nulls, NaN, duplicates, BOM, ragged, truncated, damaged, empty",
        "all problems of a file in one message, exit code by kind, nothing written",
        120,
    ),
    "bytes": Row(
        "any bytes as manifest, config, safetensors", "a clear error, no traceback, under 2 s and 1 GiB", 1500
    ),
    "pickles": Row(
        "pickles planted in any folder or input, with and without --allow-pickle",
        "refused; the payload's side effect is absent",
        8,
    ),
    "edges": Row(
        "cold items, empty histories, items only in test, equal scores, one item, one user",
        "defined results; ties conservative",
        50,
    ),
    "training": Row(
        "NaN loss, exploding gradient, codebook collapse, out of memory",
        "stop with step, batch and last good checkpoint; collapse reported",
        15,
    ),
    "system": Row("disk full, read-only place, no HOME, no temporary folder", "a clear error, or it works", 10),
    "together": Row(
        "two runs on one checkpoint folder", "the second refuses, or takes over after expiry (conditional put)", 10
    ),
    "secrets": Row(
        "a secret anywhere",
        "never in logs, manifests, recipes, reports: a sweep over all outputs; a key in a config is refused",
        1,
    ),
    "hostile": Row("hostile titles in reports", "escaped; headless Chromium runs no script", 20),
}


@dataclass
class Count:
    """What was seen in one session."""

    cases: Counter[str] = field(default_factory=Counter)
    guards: Counter[str] = field(default_factory=Counter)
    missed: int = 0

    def short(self) -> list[str]:
        """The rows that have too few cases, or no guard shown to be needed."""
        found = []
        for name, row in ROWS.items():
            if self.cases[name] < row.least:
                found.append(f"{name}: {self.cases[name]} cases, {row.least} are promised")
            if not self.guards[name]:
                found.append(f"{name}: no test takes its guard out")
        return found

    def table(self) -> str:
        """The table as Markdown."""
        lines = ["| fault | promise | promised | cases | guards |", "|---|---|---:|---:|---:|"]
        for name, row in ROWS.items():
            lines.append(
                f"| {row.fault} | {row.promise} | {row.least:,} | {self.cases[name]:,} | {self.guards[name]} |"
            )
        total = sum(row.least for row in ROWS.values())
        lines.append(f"| all | | {total:,} | {self.cases.total():,} | {self.guards.total()} |")
        return "\n".join(lines) + "\n"


COUNT = Count()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(row): a case of a row of tests/faults/counting.py")
    config.addinivalue_line("markers", "guard(row): takes a guard of a row out and sees the row's check fail")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Notes the row on the test, so that it travels with its report from the process that ran it."""
    for kind in ("fault", "guard"):
        if mark := item.get_closest_marker(kind):
            if mark.args[0] not in ROWS:
                raise pytest.UsageError(f"{item.nodeid}: {kind} of an unknown row {mark.args[0]!r}")
            item.user_properties.append((kind, mark.args[0]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    noted = dict(report.user_properties)
    if not {"fault", "guard"} & noted.keys() or (report.when != "call" and report.passed):
        return
    if not report.passed:
        COUNT.missed += 1
        return
    if "guard" in noted:
        COUNT.guards[noted["guard"]] += 1
    else:
        COUNT.cases[noted["fault"]] += int(noted.get("cases", 1))


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fails a session that ran the whole table and has too few cases in a row; one that ran a part is left alone."""
    yield
    if hasattr(session.config, "workerinput") or set(COUNT.cases) != set(ROWS):
        return
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(COUNT.table())
    if COUNT.short() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if set(COUNT.cases) != set(ROWS):
        if COUNT.cases:
            terminalreporter.write_line(
                "cases of faults: " + ", ".join(f"{name} {n}" for name, n in COUNT.cases.items())
            )
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(COUNT.table())
    if COUNT.missed:
        terminalreporter.write_line(f"{COUNT.missed} cases failed or were skipped")
    for problem in COUNT.short():
        terminalreporter.write_line(problem)
