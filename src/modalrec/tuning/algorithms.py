"""Katib's algorithms as samplers of Optuna, and what of them cannot be mapped.

Settings are those that Katib's own services take (its `tpe` and `random` are hyperopt's, `grid` and `multivariate-tpe`
Optuna's, `cmaes` and `sobol` goptuna's, `bayesianoptimization` scikit-optimize's), so that a file that runs here runs
there. What only exists there is refused by name.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler

from modalrec.tuning.space import NUMERIC

if TYPE_CHECKING:
    from modalrec.tuning.experiment import Experiment

ETA = 3
"""Katib's default share of a hyperband: one trial of so many goes on."""

Check = Callable[[str], bool]


def _whole(least: int) -> Check:
    return lambda text: text.isdigit() and int(text) >= least


def _one_of(*words: str) -> Check:
    return lambda text: text in words


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


SEED = {"random_state": _whole(0)}
SETTINGS: dict[str, dict[str, Check]] = {
    "random": SEED,
    "grid": SEED,
    "tpe": SEED | {"n_EI_candidates": _whole(1)},
    "multivariate-tpe": SEED | {"n_startup_trials": _whole(0), "n_ei_candidates": _whole(1)},
    "cmaes": SEED | {"sigma": _positive, "restart_strategy": _one_of("none")},
    "sobol": {},
    "hyperband": {"r_l": _positive, "eta": _whole(2), "resource_name": bool},
    "bayesianoptimization": SEED
    | {
        "base_estimator": _one_of("GP"),
        "n_initial_points": _whole(0),
        "acq_func": _one_of("EI"),
        "acq_optimizer": _one_of("auto"),
    },
}
"""From algorithm to its settings that can be mapped, and which of their values."""

UNMAPPED = {
    ("tpe", "gamma"): "hyperopt's share of good trials; Optuna's grows with their number",
    ("tpe", "prior_weight"): "hyperopt's; Optuna's is deprecated",
    ("tpe", "n_startup_trials"): "Katib's tpe is hyperopt's and refuses it; use multivariate-tpe",
}
"""Settings that look right and are not, and why."""


def check_algorithm(experiment: "Experiment") -> Iterator[str]:
    """What of the algorithm Katib would refuse or Optuna cannot do, one line each."""
    name, where = experiment.algorithm, "spec.algorithm"
    known = SETTINGS.get(name)
    if known is None:
        yield f"{where}.algorithmName: {name!r} cannot be run by Optuna; known: {', '.join(SETTINGS)}"
        return
    for setting, value in experiment.settings.items():
        check = known.get(setting)
        if check is None:
            why = UNMAPPED.get((name, setting), f"{name} has {', '.join(known) or 'none'}")
            yield f"{where}.algorithmSettings: {setting} is not for {name} ({why})"
        elif not check(value):
            yield f"{where}.algorithmSettings: {setting}={value!r} cannot be mapped to Optuna, or is out of range"
    numeric = [parameter for parameter in experiment.parameters if parameter.kind in NUMERIC]
    if name == "cmaes" and len(numeric) < 2:
        yield f"{where}: cmaes needs two parameters that are int or double (given {len(numeric)})"
    if name == "grid":
        yield from _check_grid(experiment)
    if name == "hyperband":
        yield from _check_hyperband(experiment)


def _check_grid(experiment: "Experiment") -> Iterator[str]:
    endless = [p.name for p in experiment.parameters if p.kind == "double" and p.step is None]
    if endless:
        yield f"spec.algorithm: grid needs a step for {', '.join(endless)}"
        return
    cells = math.prod(len(parameter.grid()) for parameter in experiment.parameters)
    if (experiment.max_trials or 0) > cells:
        yield f"spec.maxTrialCount: {experiment.max_trials} is above the {cells} points of the grid; Katib refuses it"


def _check_hyperband(experiment: "Experiment") -> Iterator[str]:
    for setting in ("r_l", "resource_name"):
        if setting not in experiment.settings:
            yield f"spec.algorithm.algorithmSettings: hyperband needs {setting}"
            return
    named = [p for p in experiment.parameters if p.name == experiment.settings["resource_name"]]
    if not named or named[0].kind != "int":
        yield f"spec.algorithm: resource_name={experiment.settings['resource_name']} is no parameter of type int"
    if not _positive(experiment.settings["r_l"]):
        return
    eta = int(experiment.settings.get("eta", ETA))
    bracket = math.ceil(eta ** int(math.log(float(experiment.settings["r_l"])) / math.log(eta)))
    if experiment.parallel < bracket:
        yield f"spec.parallelTrialCount: {experiment.parallel} is below the {bracket} trials of the first bracket"


def fixed(experiment: "Experiment") -> dict[str, str]:
    """Parameters that are not drawn: a hyperband gives each trial the whole resource and ends the worse ones early."""
    if experiment.algorithm != "hyperband":
        return {}
    return {experiment.settings["resource_name"]: str(int(float(experiment.settings["r_l"])))}


def make_sampler(experiment: "Experiment", number: int, seed: int) -> BaseSampler:
    """The sampler for one trial.

    A fresh one for each trial draws the same as one that was never interrupted: what it has learnt is in the study.

    Args:
        experiment: The experiment.
        number: How many trials have begun before.
        seed: Used where the experiment sets no `random_state`.
    """
    given = experiment.settings
    seed = int(given.get("random_state", seed))
    own = (seed * 1_000_003 + number) % 2**32  # another one for each trial
    words = optuna.samplers.RandomSampler(seed=own)  # which cmaes and sobol leave to chance, and their first trials
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if experiment.algorithm in ("tpe", "multivariate-tpe"):
            return optuna.samplers.TPESampler(seed=own, **_tpe(experiment.algorithm, given))
        if experiment.algorithm == "cmaes":
            sigma = float(given["sigma"]) if "sigma" in given else None
            return optuna.samplers.CmaEsSampler(
                seed=seed, sigma0=sigma, independent_sampler=words, warn_independent_sampling=False
            )
        if experiment.algorithm == "sobol":
            return optuna.samplers.QMCSampler(
                seed=seed, scramble=True, independent_sampler=words, warn_independent_sampling=False
            )
        if experiment.algorithm == "bayesianoptimization":
            first = int(given.get("n_initial_points", 10))
            return optuna.samplers.GPSampler(seed=own, n_startup_trials=first, warn_independent_sampling=False)
        return words


def grid_point(experiment: "Experiment", place: int, seed: int) -> dict[str, Any] | None:
    """One point of the grid, in an order drawn from the seed; None behind the last one.

    Optuna's own sampler of grids ends a study in a way that only its own loop understands.
    """
    grids = [parameter.grid() for parameter in experiment.parameters]
    sizes = [len(grid) for grid in grids]
    if place >= math.prod(sizes):
        return None
    seed = int(experiment.settings.get("random_state", seed))
    cell = np.random.default_rng(seed).permutation(math.prod(sizes))[place]
    found = zip(experiment.parameters, grids, np.unravel_index(cell, sizes), strict=True)
    return {parameter.name: grid[number] for parameter, grid, number in found}


def _tpe(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Settings of TPE; hyperopt starts with 20 random trials, Optuna with 10."""
    candidates = given.get("n_EI_candidates", given.get("n_ei_candidates", "24"))
    return {
        "multivariate": name == "multivariate-tpe",
        "n_startup_trials": int(given.get("n_startup_trials", 10)),
        "n_ei_candidates": int(candidates),
        "constant_liar": True,
    }


def make_pruner(experiment: "Experiment") -> BasePruner:
    """Ends trials of a hyperband; of other algorithms none."""
    if experiment.algorithm != "hyperband":
        return NopPruner()
    whole = int(float(experiment.settings["r_l"]))
    return HyperbandPruner(
        min_resource=1, max_resource=whole, reduction_factor=int(experiment.settings.get("eta", ETA))
    )
