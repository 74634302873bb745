"""Running an Experiment on this machine: Optuna chooses, each trial is a process, the study is kept in a file.

The study (SQLite) knows what was chosen for every trial and what came out. A search that was interrupted goes on with
the same command: what was running then runs again with the same parameters, from its checkpoints.
"""

import fcntl
import itertools
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DatabaseError

from modalrec.artifacts.files import sha256_json
from modalrec.artifacts.s3 import SCHEME
from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError, TrainingError, UpstreamError
from modalrec.run import Progress, Run
from modalrec.stages import EDGES, load_stage
from modalrec.tuning.algorithms import fixed, grid_point, make_pruner, make_sampler
from modalrec.tuning.experiment import Experiment
from modalrec.tuning.fields import corner
from modalrec.tuning.results import AGAIN, ASSIGNMENTS, ERROR, INTERRUPTED, METRICS, SECONDS, counted, failed
from modalrec.tuning.stopping import make_stopping
from modalrec.tuning.template import Command
from modalrec.tuning.trial import LOG, POLL_SECONDS, TrialProcess, stop_left

STUDY = "study.db"
EDITABLE = ("maxTrialCount", "maxFailedTrialCount", "parallelTrialCount")
"""What of an Experiment may change while it goes on; the same as in Katib."""


@dataclass(frozen=True)
class Search:
    """A search to run here.

    Attributes:
        experiment: The Experiment.
        folder: Where the study, the trials' logs and the results go.
        places: From edge to folder or URI, for the options of the trial's command.
        assignments: Settings of every trial over those of its command, as `field=value`.
        trials: Completed trials that end the search; None for the Experiment's.
        parallel: Trials at a time.
        seed: Used where the Experiment sets no `random_state`.
    """

    experiment: Experiment
    folder: Path
    places: Mapping[str, str] = field(default_factory=dict)
    assignments: Sequence[str] = ()
    trials: int | None = None
    parallel: int = 1
    seed: int = 0

    def command(self, assignments: Mapping[str, str], folder: Path, checkpoints: Path) -> Command:
        """The command of a trial: the template's, with this search's places; what it makes goes into its folder."""
        command = self.experiment.template.command(assignments, folder.name)
        known = {name for name, _ in command.options()}
        outputs = {edge: str(folder / edge) for edge in command.outputs if edge in known}
        kept = {"checkpoints": str(checkpoints)} if "checkpoints" in known else {}
        return command.with_places({**outputs, **kept, **self.places}).adding(self.assignments)

    def checkpoints(self, assignments: Mapping[str, str], taken: Collection[Path] = ()) -> Path:
        """Where a trial with these parameters keeps its checkpoints, for itself or for its second beginning.

        Args:
            assignments: From parameter to its text.
            taken: Where others that run now have theirs; one of them may have drawn the same parameters.
        """
        place = self.folder / "checkpoints" / sha256_json(dict(assignments))[:16]
        places = (place if number == 1 else place.with_name(f"{place.name}-{number}") for number in itertools.count(1))
        return next(each for each in places if each not in taken)

    def check(self) -> None:
        """Refuses what every trial would fail with.

        Raises:
            ConfigError: An input is in a store that this machine does not know, or a setting is wrong.
        """
        command = self.command(corner(self.experiment, 0), self.folder, self.folder)
        far = [f"--{name}" for name, value in command.options() if name in EDGES and value.startswith(SCHEME)]
        if far and not os.environ.get("AWS_ENDPOINT_URL"):
            raise ConfigError(
                f"{', '.join(far)}: the trials read it from a store, and none is set here; give a folder, such as "
                f"{far[0]} DIR, or set AWS_ENDPOINT_URL and the keys"
            )
        if command.stage:
            resolve(load_stage(command.stage)[1], command.settings(), where=command.stage)

    def run(self, run: Run) -> optuna.Study:
        """Runs trials until there are enough, the goal is reached, or too many have failed.

        Returns:
            The study.

        Raises:
            ArtifactError: The folder holds the study of another Experiment, or one that is damaged.
            TrainingError: As many trials have failed as end the search.
            UpstreamError: The command is no program here, or another search is at work in the folder.
        """
        with _alone(self.folder):
            study = open_study(self)
            with run.progress("trials", self.trials or self.experiment.max_trials) as progress:
                progress.start_at(len(counted(study)))
                _Loop(self, study, run, progress).run()
        return study


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else searches in this folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UpstreamError(
                f"{folder}: another search is at work here; wait for it or give another --out"
            ) from None
        yield


def open_study(search: Search) -> optuna.Study:
    """The study of a search, a new one or the one that its folder holds.

    Raises:
        ArtifactError: The folder holds the study of another Experiment, or one that is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = {key: value for key, value in search.experiment.document["spec"].items() if key not in EDITABLE}
    identity = sha256_json({"spec": spec, "settings": list(search.assignments), "seed": search.seed})
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{(search.folder / STUDY).absolute()}",
            study_name=search.experiment.name,
            direction="maximize" if search.experiment.objective.maximise else "minimize",
            pruner=make_pruner(search.experiment),
            load_if_exists=True,
        )
    except (DatabaseError, StorageInternalError) as error:
        said = str(error).splitlines()[0]
        raise ArtifactError(
            f"{search.folder / STUDY}: not a study that can be read ({said}); give another --out"
        ) from None
    known = study.user_attrs.setdefault("identity", identity) if study.trials else identity
    if known != identity:
        raise ArtifactError(
            f"{search.folder}: holds a search of another experiment, other settings or another seed; give another --out"
        )
    study.set_user_attr("identity", identity)
    return study


@dataclass
class _Running:
    """A trial at work: Optuna's, the process, its checkpoints, and what medianstop wanted of it when it started."""

    trial: optuna.Trial
    assignments: dict[str, str]
    process: TrialProcess
    checkpoints: Path
    threshold: float | None
    seen: int = 0


class _Loop:
    """Starts, watches and ends the trials of one run of a search."""

    def __init__(self, search: Search, study: optuna.Study, run: Run, progress: Progress) -> None:
        self.search, self.study, self.run_, self.progress = search, study, run, progress
        self.experiment = search.experiment
        self.stopping = make_stopping(self.experiment)
        self.running: list[_Running] = []
        self.exhausted = False
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            self._teach(list(trial.intermediate_values.values()))

    def run(self) -> None:
        """Until the search ends; whatever happens, no process is left behind."""
        self._take_up()
        try:
            while not self._finished():
                while self._may_start():
                    self._start()
                for each in list(self.running):
                    self._watch(each)
                time.sleep(POLL_SECONDS)
        finally:
            for each in self.running:
                each.process.stop()

    def _take_up(self) -> None:
        """Trials that were running when an earlier run was interrupted begin again, each once.

        What is chosen again is written down before it is given up, so that this may be interrupted too.
        """
        known = self.study.get_trials(deepcopy=False)
        chosen = {trial.user_attrs.get(AGAIN) for trial in known}
        for trial in known:
            if trial.state != TrialState.RUNNING:
                continue
            stop_left(self.search.folder / trial_folder(trial.number))
            if trial.number not in chosen:
                given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
                self.study.enqueue_trial(given, user_attrs={AGAIN: trial.number})
            self.study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
            self.study.tell(trial.number, state=TrialState.FAIL)
            self.run_.say(f"trial {trial.number} was interrupted and begins again")

    def _finished(self) -> bool:
        done, enough = counted(self.study), self.search.trials or self.experiment.max_trials
        best = _best(self.study)
        if best is not None and self.experiment.objective.reached(best.values[0]):
            self.run_.say(f"the goal {self.experiment.objective.goal:g} is reached")
            return True
        bad = [trial for trial in done if failed(trial)]
        most = self.experiment.max_failed
        if bad and most is not None and len(bad) >= most:
            last = bad[-1]
            raise TrainingError(
                f"{len(bad)} trials have failed, and maxFailedTrialCount={most} ends the search; the last, trial "
                f"{last.number}: {last.user_attrs.get(ERROR, '')}\n"
                f"Its log: {self.search.folder / trial_folder(last.number) / LOG}; correct the cause and run it again"
            )
        return not self.running and (self.exhausted or (enough is not None and len(done) >= enough))

    def _may_start(self) -> bool:
        enough = self.search.trials or self.experiment.max_trials
        taken = len(counted(self.study)) + len(self.running)
        return not self.exhausted and len(self.running) < self.search.parallel and (enough is None or taken < enough)

    def _start(self) -> None:
        known = self.study.get_trials(deepcopy=False)
        begun = sum(not trial.user_attrs.get(INTERRUPTED) for trial in known)
        if self.experiment.algorithm == "grid" and not any(trial.state == TrialState.WAITING for trial in known):
            point = grid_point(self.experiment, begun, self.search.seed)
            if point is None:
                self.exhausted = True
                return
            self.study.enqueue_trial(point)
        self.study.sampler = make_sampler(self.experiment, begun, self.search.seed)
        constant = fixed(self.experiment)
        drawn = {p.name: p for p in self.experiment.parameters if p.name not in constant}
        trial = self.study.ask({name: parameter.distribution() for name, parameter in drawn.items()})
        assignments = {name: drawn[name].text(value) for name, value in trial.params.items()} | constant
        trial.set_user_attr(ASSIGNMENTS, assignments)
        folder = self.search.folder / trial_folder(trial.number)
        shutil.rmtree(folder, ignore_errors=True)
        checkpoints = self.search.checkpoints(assignments, [each.checkpoints for each in self.running])
        process = TrialProcess(
            self.search.command(assignments, folder, checkpoints),
            folder,
            self.experiment.collector,
            self.experiment.objective.metrics,
        )
        threshold = self.stopping.threshold() if self.stopping else None
        self.running.append(_Running(trial, assignments, process, checkpoints, threshold))

    def _watch(self, each: _Running) -> None:
        try:
            code = each.process.poll()
        except ValueError as error:
            each.process.stop()
            self._end(each, TrialState.FAIL, f"its metrics cannot be read: {error}")
            return
        values = each.process.observation.values.get(self.experiment.objective.metric, [])
        for step in range(each.seen, len(values)):
            each.trial.report(values[step], step + 1)
        new, each.seen = len(values) > each.seen, len(values)
        if code is None:
            if new and self._stops(each, values):
                each.process.stop()
                self._end(each, TrialState.PRUNED)
            return
        value = each.process.observation.value(*self._objective())
        if code == 0 and value is not None:
            self._teach(values)
            self._end(each, TrialState.COMPLETE, value=value)
        else:
            said = f"it printed no {self.experiment.objective.metric}" if code == 0 else each.process.error(code)
            self._end(each, TrialState.FAIL, said or f"exit code {code}")

    def _stops(self, each: _Running, values: Sequence[float]) -> bool:
        if self.stopping is not None and self.stopping.ends(values, each.threshold):
            return True
        resource = next(iter(fixed(self.experiment).values()), "")
        return bool(resource) and len(values) < int(resource) and each.trial.should_prune()

    def _end(self, each: _Running, state: TrialState, error: str = "", value: float | None = None) -> None:
        self.running.remove(each)
        objective = self.experiment.objective
        found = {name: each.process.observation.value(name, objective.strategies[name]) for name in objective.metrics}
        each.trial.set_user_attr(METRICS, {name: number for name, number in found.items() if number is not None})
        each.trial.set_user_attr(SECONDS, round(each.process.seconds, 2))
        if error:
            each.trial.set_user_attr(ERROR, error)
        self.study.tell(each.trial, value, state)
        for left in (*self._made(each), each.checkpoints):
            shutil.rmtree(left, ignore_errors=True)
        self._show(each, state, error, value)

    def _made(self, each: _Running) -> list[Path]:
        """What the trial made: with its parameters anybody can make it again."""
        return [path for path in each.process.folder.iterdir() if path.is_dir()]

    def _show(self, each: _Running, state: TrialState, error: str, value: float | None) -> None:
        best = _best(self.study)
        parameters = " ".join(f"{name.rpartition('.')[2]}={text}" for name, text in each.assignments.items())
        outcome = {TrialState.COMPLETE: "", TrialState.PRUNED: "ended early", TrialState.FAIL: f"failed: {error}"}
        told = f"{self.experiment.objective.metric} {value:.4f}" if value is not None else outcome[state]
        self.run_.say(f"trial {each.trial.number}: {told}  {each.process.seconds:.0f} s  {parameters}")
        self.progress.advance(**({"best": best.values[0]} if best is not None else {}))

    def _teach(self, values: Sequence[float]) -> None:
        if self.stopping is not None:
            self.stopping.succeeded(values)

    def _objective(self) -> tuple[str, str]:
        metric = self.experiment.objective.metric
        return metric, self.experiment.objective.strategies[metric]


def trial_folder(number: int) -> str:
    """The folder of a trial inside a search's."""
    return f"trials/{number:04d}"


def _best(study: optuna.Study) -> FrozenTrial | None:
    return study.best_trial if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) else None
