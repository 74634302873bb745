"""What a search leaves: all trials in one plain file, and the best parameters as settings that a stage takes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from modalrec.artifacts.files import write_bytes, write_json
from modalrec.tuning.experiment import Experiment

ASSIGNMENTS, METRICS, SECONDS, ERROR = "assignments", "metrics", "seconds", "error"
INTERRUPTED, AGAIN = "interrupted", "again"
"""What the study remembers of a trial besides Optuna's own; `again` is which trial it is the second beginning of."""

RESULTS = "results.json"
BEST = "best.yaml"

STATES = {TrialState.COMPLETE: "succeeded", TrialState.PRUNED: "ended early", TrialState.FAIL: "failed"}


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end, those that failed among them; interrupted ones are not."""
    ended = study.get_trials(deepcopy=False, states=tuple(STATES))
    return [trial for trial in ended if not trial.user_attrs.get(INTERRUPTED)]


def failed(trial: FrozenTrial) -> bool:
    """Whether a trial that ended did so without a result."""
    return trial.state == TrialState.FAIL


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """Every counted trial as plain values, in order."""
    return [
        {
            "trial": trial.number,
            "state": STATES[trial.state],
            "value": trial.values[0] if trial.state == TrialState.COMPLETE else None,
            "parameters": trial.user_attrs.get(ASSIGNMENTS, {}),
            "metrics": trial.user_attrs.get(METRICS, {}),
            "epochs": list(trial.intermediate_values.values()),
            "seconds": trial.user_attrs.get(SECONDS),
            "error": trial.user_attrs.get(ERROR),
        }
        for trial in counted(study)
    ]


def best_of(listed: Sequence[Mapping[str, Any]], maximise: bool) -> Mapping[str, Any] | None:
    """The best trial that succeeded, the earliest of equal ones, or None."""
    able = [row for row in listed if row["value"] is not None]
    return (max if maximise else min)(able, key=lambda row: row["value"], default=None)


def write_results(
    folder: Path, experiment: Experiment, listed: Sequence[Mapping[str, Any]], assignments: Sequence[str] = ()
) -> Mapping[str, Any] | None:
    """Writes `results.json` and, where a trial has succeeded, `best.yaml`.

    Args:
        folder: Where to.
        experiment: The experiment.
        listed: The trials, see `rows`.
        assignments: Settings of every trial over those of its command.

    Returns:
        The best trial, or None.
    """
    objective = experiment.objective
    best = best_of(listed, objective.maximise)
    write_json(
        folder / RESULTS,
        {
            "experiment": experiment.name,
            "objective": {"metric": objective.metric, "type": "maximize" if objective.maximise else "minimize"},
            "algorithm": experiment.algorithm,
            "settings": list(assignments),
            "best": best,
            "trials": list(listed),
        },
    )
    if best is not None:
        command = experiment.template.command(best["parameters"], "best").adding(assignments)
        heading = (
            f"# The best of {len(listed)} trials of {experiment.name}: trial {best['trial']}, {objective.metric} "
            f"{best['value']:.6g}.\n# For `modalrec {command.stage or 'STAGE'} --config`.\n"
        )
        write_bytes(folder / BEST, (heading + plain_yaml(command.settings())).encode())
    return best


def plain_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, tuples as lists."""
    return yaml.safe_dump(json.loads(json.dumps(settings)), sort_keys=False, allow_unicode=True)
