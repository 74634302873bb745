"""Katib's algorithms with Optuna: values stay in the space, a seed repeats them, what is only Katib's is refused."""

from typing import Any

import optuna
import pytest

from modalrec.errors import ConfigError
from modalrec.tuning.algorithms import SETTINGS, grid_point, make_pruner, make_sampler
from modalrec.tuning.build import list_field, number_field
from tests.tuning.small import FIELDS, document, experiment

HYPERBAND = {"r_l": "9", "eta": "3", "resource_name": "n"}
GIVEN: dict[str, dict[str, Any]] = {
    "hyperband": {"algorithm_settings": HYPERBAND, "parallel": 9, "trials": 9},
    "cmaes": {"algorithm_settings": {"sigma": "0.2"}},
    "multivariate-tpe": {"algorithm_settings": {"n_startup_trials": "3", "n_ei_candidates": "8"}},
    "bayesianoptimization": {"algorithm_settings": {"n_initial_points": "3", "acq_func": "EI"}},
}


def drawn(name: str, trials: int, seed: int = 0) -> list[dict[str, str]]:
    """What an algorithm chooses when every trial's value is its x."""
    given = experiment(algorithm=name, **GIVEN.get(name, {}))
    study = optuna.create_study(direction="maximize", pruner=make_pruner(given))
    found = []
    for number in range(trials):
        study.sampler = make_sampler(given, number, seed)
        trial = study.ask({p.name: p.distribution() for p in given.parameters})
        found.append({p.name: p.text(trial.params[p.name]) for p in given.parameters})
        study.tell(trial, trial.params["x"])
    return found


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"grid"}))
def test_an_algorithm_stays_in_the_space_and_repeats_itself(name: str) -> None:
    chosen = drawn(name, 6)
    feasible = {p.name: {p.text(value) for value in p.grid()} for p in experiment().parameters}
    assert all(trial[key] in values for trial in chosen for key, values in feasible.items())
    assert chosen == drawn(name, 6)
    assert len({tuple(trial.items()) for trial in chosen}) > 3


@pytest.mark.parametrize("name", ["cmaes", "sobol"])
def test_words_and_first_trials_are_drawn_anew_for_every_trial(name: str) -> None:
    """These two leave words to chance, and numbers too while no trial has succeeded."""
    assert len({trial["word"] for trial in drawn(name, 12)}) == 2
    given = experiment(algorithm=name)
    study = optuna.create_study(direction="maximize")
    found = []
    for number in range(3):  # three at a time, none has ended
        study.sampler = make_sampler(given, number, 0)
        found.append(tuple(study.ask({p.name: p.distribution() for p in given.parameters}).params.items()))
    assert len(set(found)) == 3


def test_a_grid_has_every_point_once_in_an_order_of_its_seed() -> None:
    given = experiment(algorithm="grid")
    points = [grid_point(given, place, seed=0) for place in range(21 * 8 * 2 + 1)]
    assert points.pop() is None
    assert len({tuple(point.items()) for point in points if point}) == 21 * 8 * 2
    assert points[:5] == [grid_point(given, place, seed=0) for place in range(5)]
    assert points[:5] != [grid_point(given, place, seed=1) for place in range(5)]


@pytest.mark.parametrize("name", ["tpe", "multivariate-tpe", "cmaes"])
def test_an_algorithm_learns(name: str) -> None:
    values = [float(trial["x"]) for trial in drawn(name, 25)]
    assert sum(values[15:]) / 10 > sum(values[:3]) / 3 + 0.1


@pytest.mark.parametrize(
    ("algorithm", "settings", "told"),
    [
        ("enas", {}, "'enas' cannot be run by Optuna"),
        ("pbt", {}, "'pbt' cannot be run by Optuna"),
        ("tpe", {"n_startup_trials": "5"}, "Katib's tpe is hyperopt's and refuses it"),
        ("tpe", {"gamma": "0.25"}, "gamma is not for tpe"),
        ("random", {"random_state": "-1"}, "random_state='-1' cannot be mapped"),
        ("cmaes", {"restart_strategy": "ipop"}, "restart_strategy='ipop' cannot be mapped"),
        ("bayesianoptimization", {"base_estimator": "RF"}, "base_estimator='RF' cannot be mapped"),
        ("sobol", {"random_state": "1"}, "random_state is not for sobol"),
        ("hyperband", {"r_l": "9"}, "hyperband needs resource_name"),
        ("hyperband", {"r_l": "9", "resource_name": "x"}, "resource_name=x is no parameter of type int"),
        ("hyperband", HYPERBAND, "1 is below the 9 trials of the first bracket"),
    ],
)
def test_what_cannot_be_mapped_is_refused_by_name(algorithm: str, settings: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        experiment(algorithm=algorithm, algorithm_settings=settings)


def test_a_grid_needs_steps_and_not_more_trials_than_points() -> None:
    with pytest.raises(ConfigError, match="grid needs a step for x"):
        experiment(fields=[number_field("x", "double", 0, 1)], code="print('score=1')", algorithm="grid")
    few = [list_field("word", ["a", "b"])]
    with pytest.raises(ConfigError, match="maxTrialCount: 6 is above the 2 points"):
        experiment(fields=few, code="print('score=1')", algorithm="grid")


def test_a_hyperband_ends_the_worse_trials_at_its_rungs() -> None:
    given = experiment(algorithm="hyperband", **GIVEN["hyperband"])
    study = optuna.create_study(direction="maximize", pruner=make_pruner(given), study_name="rungs")
    ended = []
    for quality in [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1] * 2:
        trial = study.ask()
        for step in range(1, 9):
            trial.report(quality + step / 1000, step)
            if trial.should_prune():
                ended.append((quality, step))
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, quality)
    assert ended
    assert {step for _, step in ended} <= {1, 3}
    assert max(quality for quality, _ in ended) < 0.9


def test_cmaes_needs_two_numbers() -> None:
    with pytest.raises(ConfigError, match="cmaes needs two parameters"):
        experiment(fields=FIELDS[1:], code="print('score=1')", algorithm="cmaes")


def test_the_small_experiment_says_what_it_runs() -> None:
    assert document()["spec"]["algorithm"] == {"algorithmName": "tpe"}
