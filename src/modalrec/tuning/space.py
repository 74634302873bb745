"""The parameters of a search: what Katib calls feasible spaces, as distributions of Optuna."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

NUMERIC = ("int", "double")
LISTED = ("discrete", "categorical")
DISTRIBUTIONS = ("uniform", "logUniform")
"""Those that Optuna has; Katib's `normal` and `logNormal` are hyperopt's alone."""


@dataclass(frozen=True)
class Parameter:
    """One parameter; every value is the text that takes its place in the trial's command.

    Attributes:
        name: As the Experiment names it.
        kind: int, double, discrete or categorical.
        low: Least value of a number, and `high` the greatest; both are feasible.
        step: Distance of neighbouring values, or None for all between.
        log: Draw evenly on a logarithmic scale.
        choices: The values of discrete and categorical parameters; as in Katib, both are drawn without an order.
    """

    name: str
    kind: str
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    step: Decimal | None = None
    log: bool = False
    choices: tuple[str, ...] = ()

    def distribution(self) -> BaseDistribution:
        """What Optuna draws from."""
        if self.kind in LISTED:
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            step = int(self.step or 1)
            return IntDistribution(int(self.low), int(self._top(Decimal(step))), log=self.log, step=step)
        top = self.high if self.step is None else self._top(self.step)
        step_ = None if self.step is None else float(self.step)
        return FloatDistribution(float(self.low), float(top), log=self.log, step=step_)

    def text(self, value: Any) -> str:
        """A drawn value as a command is given it: a step's multiples exactly, others to six digits."""
        if self.kind in LISTED or self.kind == "int":
            return str(value)
        if self.step is None:
            return f"{value:.6g}"
        steps = round((Decimal(repr(float(value))) - self.low) / self.step)
        return f"{(self.low + steps * self.step).normalize():f}"

    def grid(self) -> list[Any]:
        """All values, as Katib's grid search lists them; a number needs a step."""
        if self.kind in LISTED:
            return list(self.choices)
        step = self.step or Decimal(1)
        values = [self.low + place * step for place in range(int((self.high - self.low) / step) + 1)]
        return [int(value) if self.kind == "int" else float(value) for value in values]

    def corners(self) -> list[str]:
        """The texts of the least and the greatest value, or of every choice."""
        if self.kind in LISTED:
            return list(self.choices)
        top = self.high if self.step is None else self._top(self.step)
        return [self.text(int(end) if self.kind == "int" else float(end)) for end in (self.low, top)]

    def _top(self, step: Decimal) -> Decimal:
        """The greatest value that steps from `low` reach."""
        return self.low + int((self.high - self.low) / step) * step


def read_parameter(name: str, kind: str, space: Any) -> tuple[Parameter | None, list[str]]:
    """Makes a parameter of a feasible space.

    Args:
        name: The parameter's name.
        kind: Katib's `parameterType`.
        space: Katib's `feasibleSpace`, with `min`, `max`, `step`, `list` and `distribution`.

    Returns:
        The parameter, or None with what is wrong with it.
    """
    if kind in LISTED:
        return _listed(name, kind, space.list or [])
    problems: list[str] = []
    numbers = {field: _number(getattr(space, field), field, kind, problems) for field in ("min", "max", "step")}
    low, high, step = numbers["min"], numbers["max"], numbers["step"]
    distribution = space.distribution or "uniform"
    if distribution not in DISTRIBUTIONS:
        problems.append(f"distribution {distribution!r} cannot be drawn by Optuna; use {' or '.join(DISTRIBUTIONS)}")
    log = distribution == "logUniform"
    if low is not None and high is not None and low > high:
        problems.append(f"min {low} is above max {high}")
    if step is not None and step <= 0:
        problems.append(f"step {step} is not above 0")
    if log and step is not None and not (kind == "int" and step == 1):
        problems.append("logUniform takes no step: leave it out, or list the values as discrete")
    if log and low is not None and low <= 0:
        problems.append(f"logUniform needs a min above 0 (given {low})")
    if problems or low is None or high is None:
        return None, problems
    return Parameter(name, kind, low, high, step, log), []


def _listed(name: str, kind: str, values: Sequence[str]) -> tuple[Parameter | None, list[str]]:
    problems = []
    if not values:
        problems.append("list: has no values")
    if len(set(values)) < len(values):
        problems.append("list: names a value twice")
    if kind == "discrete":
        problems += [f"list: {value!r} is not a number; use categorical" for value in values if not _is_number(value)]
    return (None, problems) if problems else (Parameter(name, kind, choices=tuple(values)), [])


def _number(text: str | None, field: str, kind: str, problems: list[str]) -> Decimal | None:
    if not text:
        if field != "step":
            problems.append(f"{field}: missing; a number has min and max")
        return None
    if not _is_number(text) or (kind == "int" and Decimal(text) != int(Decimal(text))):
        problems.append(f"{field}: {text!r} is not {'a whole number' if kind == 'int' else 'a number'}")
        return None
    return Decimal(text)


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False
