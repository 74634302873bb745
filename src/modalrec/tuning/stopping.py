"""Ending trials early, by the values that they print after each epoch.

`medianstop` is Katib's rule, after `medianstop/service.py` and `updateStopRules` of Katib 0.19. The median of its name
is the mean, over the trials that have succeeded, of the mean of their first `start_step` values: a trial ends when its
best value so far is worse, from its `start_step`-th value on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modalrec.tuning.experiment import Experiment

MEDIANSTOP = {"min_trials_required": 3, "start_step": 4}
"""Its settings and their defaults."""


@dataclass
class MedianStop:
    """The rule and the trials that it has seen.

    Attributes:
        maximise: Whether greater values are better.
        min_trials: Succeeded trials before the rule begins.
        start_step: Values of a trial before it can end.
    """

    maximise: bool
    min_trials: int = MEDIANSTOP["min_trials_required"]
    start_step: int = MEDIANSTOP["start_step"]
    _averages: list[float] = field(default_factory=list)

    def succeeded(self, values: Sequence[float]) -> None:
        """Takes the values of a trial that came to its end."""
        first = values[: self.start_step]
        if first:
            self._averages.append(sum(first) / len(first))

    def threshold(self) -> float | None:
        """What a trial that starts now has to reach, or None while too few have succeeded."""
        if len(self._averages) < self.min_trials:
            return None
        return sum(self._averages) / len(self._averages)

    def ends(self, values: Sequence[float], threshold: float | None) -> bool:
        """Whether a trial with these values, which started with this threshold, ends."""
        if threshold is None or len(values) < self.start_step:
            return False
        return max(values) < threshold if self.maximise else min(values) > threshold


def make_stopping(experiment: "Experiment") -> MedianStop | None:
    """The rule of an experiment, or None where all trials run to their end."""
    if experiment.stopping is None:
        return None
    chosen = MEDIANSTOP | {name: int(value) for name, value in experiment.stopping.items()}
    return MedianStop(experiment.objective.maximise, chosen["min_trials_required"], chosen["start_step"])


def check_stopping(experiment: "Experiment") -> Iterator[str]:
    """What of the early stopping cannot be done here, one line each."""
    given = (experiment.document["spec"].get("earlyStopping") or {}).get("algorithmName")
    if given not in (None, "medianstop"):
        yield f"spec.earlyStopping.algorithmName: {given!r} is unknown; Katib has medianstop"
        return
    for name, value in (experiment.stopping or {}).items():
        if name not in MEDIANSTOP:
            yield f"spec.earlyStopping: unknown setting {name}; medianstop has {', '.join(MEDIANSTOP)}"
        elif not value.isdigit() or int(value) < 1:
            yield f"spec.earlyStopping: {name}: {value!r} is not a whole number of 1 or more"
