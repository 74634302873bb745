"""Runs all tests that take part in the fault suite, wherever they lie: `python -m tests.faults [PYTEST OPTIONS]`."""

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MARKS = ("mark.fault(", "mark.guard(")


def modules() -> list[str]:
    """The files that hold a case or a guard."""
    return sorted(str(path) for path in TESTS.rglob("test_*.py") if any(mark in path.read_text() for mark in MARKS))


if __name__ == "__main__":
    sys.exit(pytest.main(["-m", "fault or guard", *(sys.argv[1:] or ["-n", "2"]), *modules()]))
