"""Feasible spaces as distributions, and the texts that commands are given."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalrec.tuning.space import Parameter, read_parameter


def space(**fields: Any) -> Any:
    return SimpleNamespace(**{"min": None, "max": None, "step": None, "list": None, "distribution": None, **fields})


def parameter(kind: str, **fields: Any) -> Parameter:
    found, problems = read_parameter("p", kind, space(**fields))
    assert found is not None, problems
    return found


@given(st.integers(0, 48))
def test_multiples_of_a_step_are_written_exactly(place: int) -> None:
    rate = parameter("double", min="0.01", max="0.25", step="0.005")
    drawn = rate.grid()[place]
    assert rate.text(0.01 + place * 0.005) == rate.text(drawn)
    assert len(rate.text(drawn)) <= 5
    assert float(rate.text(drawn)) == pytest.approx(0.01 + 0.005 * place, abs=1e-12)


def test_a_grid_has_both_ends_and_stops_at_the_last_step() -> None:
    assert parameter("double", min="0", max="0.7", step="0.05").grid()[-1] == pytest.approx(0.7)
    assert parameter("int", min="1", max="10", step="4").grid() == [1, 5, 9]
    assert parameter("int", min="1", max="3").grid() == [1, 2, 3]
    assert parameter("discrete", list=["0.5", "1"]).grid() == ["0.5", "1"]
    assert parameter("int", min="1", max="10", step="4").corners() == ["1", "9"]
    assert parameter("categorical", list=["a", "b"]).corners() == ["a", "b"]


def test_distributions_are_those_of_the_file() -> None:
    step = parameter("int", min="64", max="512", step="32").distribution()
    assert (step.low, step.high, step.step, step.log) == (64, 512, 32, False)  # type: ignore[attr-defined]
    log = parameter("double", min="1e-4", max="1e-2", distribution="logUniform")
    assert log.distribution().log  # type: ignore[attr-defined]
    assert log.text(0.000123456789) == "0.000123457"
    assert parameter("discrete", list=["0.5", "1", "0"]).distribution().choices == ("0.5", "1", "0")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "fields", "told"),
    [
        ("int", {"min": "1.5", "max": "2"}, "not a whole number"),
        ("double", {"min": "one", "max": "2"}, "'one' is not a number"),
        ("double", {"min": "2", "max": "1"}, "min 2 is above max 1"),
        ("double", {"min": "0", "max": "1", "step": "-0.1"}, "step -0.1 is not above 0"),
        ("double", {"min": "0", "max": "1", "distribution": "logUniform"}, "needs a min above 0"),
        ("double", {"min": "0.1", "max": "1", "step": "0.1", "distribution": "logUniform"}, "takes no step"),
        ("double", {"min": "0", "max": "1", "distribution": "normal"}, "'normal' cannot be drawn"),
        ("discrete", {"list": ["1", "two"]}, "'two' is not a number"),
        ("categorical", {"list": ["a", "a"]}, "names a value twice"),
        ("categorical", {"list": []}, "has no values"),
    ],
)
def test_what_cannot_be_drawn_is_refused(kind: str, fields: dict[str, Any], told: str) -> None:
    found, problems = read_parameter("p", kind, space(**fields))
    assert found is None
    assert told in "\n".join(problems)
