"""Running a recipe on this machine: the same pipeline under kfp.local, with every artifact through a real store.

A stage whose code, parameters and inputs are those of an earlier run is not run again: its outputs are in the store. An
interrupted run therefore goes on, and training goes on from its checkpoints, which are in the store too.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from kfp import local
from kfp.local import status

import pipelines
from components.execute import NULL
from components.tune.search import SEARCHES
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.files import write_json
from modalrec.errors import DataError, ModalrecError, UpstreamError
from pipelines.runner.containers import container_runner, run_container
from pipelines.runner.plan import passed, plan, titled, titles
from pipelines.runner.process import Interrupted, interruptible, run_process
from pipelines.runner.seam import Outputs, RunTask, replaced
from pipelines.runner.staging import BUCKET, Staging
from pipelines.runner.table import table
from pipelines.runner.terminal import Terminal

MODEL = "model"
"""Name of the edge, and of the folder, of what the last stage has judged; `recommend` and `serve` take that."""
PREDICTIONS = "prediction.csv"
"""What `evaluate` says of rows whose labels are hidden, in the form that a challenge takes."""
# True of every run here, and nothing to act on.
KNOWN_WARNINGS = (
    r"Task .* have no effect in the current local runner",
    r"You may be attemping to run a task that uses custom or non-Python base image",
)


class StageFailed(ModalrecError):
    """A stage ended with an error; the exit code is the stage's."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class LocalRun:
    """A recipe to run here.

    Attributes:
        name: The recipe's name.
        pipeline: The pipeline.
        arguments: Its arguments; a `source` that is a local folder is uploaded first.
        out: Where `<name>/` with the results and `store/` with all artifacts are.
        cache: Take results of earlier runs from the store.
        stream: Where progress is shown.
        containers: Run each stage in its image, not as a process of this Python.
    """

    name: str
    pipeline: Any
    arguments: Mapping[str, Any]
    out: Path
    cache: bool = True
    stream: TextIO = field(default_factory=lambda: sys.stdout)
    containers: bool = False

    @property
    def folder(self) -> Path:
        """Where the results go: model/, metrics.json, report.html, prediction.csv, artifacts.json, log.txt."""
        return self.out / self.name

    def run(self) -> None:
        """Runs the recipe and shows its results.

        Raises:
            StageFailed: A stage failed; with its own message.
            DataError: The source is not there.
            UpstreamError: The store does not work, kfp is another release, or another run is at work in `out`.
        """
        source = _source(self.arguments)
        with self._alone(), (self.folder / "log.txt").open("w", encoding="utf-8") as log, interruptible():
            for result in ("metrics.json", "report.html", PREDICTIONS, "artifacts.json"):
                (self.folder / result).unlink(missing_ok=True)
            shutil.rmtree(self.folder / MODEL, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix="work-", dir=self.folder) as work, warnings.catch_warnings():
                for message in KNOWN_WARNINGS:
                    warnings.filterwarnings("ignore", message=message)
                local.init(local.SubprocessRunner(use_venv=False), pipeline_root=work, workspace_root=f"{work}/none")
                arguments = _without_none(self.arguments)
                with contextlib.redirect_stdout(log):
                    terminal = Terminal(self.stream, log, plan(self.pipeline, arguments))
                    with EmbeddedStore(self.out / "store") as server:
                        self._run(Path(work), server, source, arguments, terminal)

    def _run(
        self, work: Path, server: EmbeddedStore, source: Path | None, arguments: dict[str, Any], terminal: Terminal
    ) -> None:
        staging = Staging(server.store(), self.name)
        if source is not None:
            terminal.say(f"source  {source} -> {BUCKET}/sources")
            arguments = {**arguments, "source": staging.upload_source(source)}
        # Whoever wants nothing from the cache wants no finished training either.
        checkpoints = f"{BUCKET}/checkpoints/{self.name}" + ("" if self.cache else f"-{uuid.uuid4().hex}")
        environment = _environment(server, work, checkpoints, self.stream.isatty())
        environment[SEARCHES] = str(self.folder.absolute() / "searches")
        if self.containers:
            given = {name: environment[name] for name in (*server.env(), "MODALREC_CHECKPOINTS")}
            local.init(container_runner(given), pipeline_root=str(work), workspace_root=f"{work}/none")
        stages = _Stages(self, work, environment, staging, terminal)
        try:
            with replaced(stages.wrapped, stages.run_process, stages.run_container):
                self.pipeline(**arguments)
        except Interrupted:
            terminal.say("interrupted; the same command goes on from here")
            raise
        staging.store.delete_folder(checkpoints)  # of use only to a run that was interrupted
        write_json(self.folder / "artifacts.json", staging.addresses)
        results = staging.addresses.get(stages.last, {})
        for output, place in (("metrics", "metrics.json"), ("report", "report.html")):
            if output in results:
                staging.store.get_file(results[output], self.folder / place)
        predictions = f"{results['evaluation']}/{PREDICTIONS}" if "evaluation" in results else ""
        if predictions and staging.store.exists(predictions):
            staging.store.get_file(predictions, self.folder / PREDICTIONS)
        if stages.model:
            staging.store.get(stages.model, work / MODEL)
            (work / MODEL).rename(self.folder / MODEL)
        self._show(terminal)

    def _show(self, terminal: Terminal) -> None:
        metrics = self.folder / "metrics.json"
        if metrics.exists():
            terminal.say("\n" + table(json.loads(metrics.read_bytes())))
        terminal.say("")
        for what, place in (
            ("report", "report.html"),
            ("metrics", "metrics.json"),
            ("predicted", PREDICTIONS),
            ("model", MODEL),
            ("addresses", "artifacts.json"),
        ):
            if (self.folder / place).exists():
                terminal.say(f"{what:<10}{self.folder / place}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "run.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UpstreamError(
                    f"{self.folder}: another run is at work here; wait for it or give another --out"
                ) from None
            for left in self.folder.glob("work-*"):  # of a run that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield


class _Stages:
    """The stages of one run: what takes the place of kfp's private functions."""

    def __init__(
        self, run: LocalRun, work: Path, environment: Mapping[str, str], staging: Staging, terminal: Terminal
    ) -> None:
        self.last, self.model = "", ""
        self._run = run
        self._work = work
        self._environment = environment
        self._staging = staging
        self._terminal = terminal
        self._titles = titles(run.pipeline.pipeline_spec)
        self._exit_code = 0

    def run_process(self, command: list[str], env: Mapping[str, str] | None) -> int:
        """Runs a stage's process."""
        self._exit_code = run_process(command, {**self._environment, **(env or {})}, self._terminal.line)
        return self._exit_code

    def run_container(self, **container: Any) -> int:
        """Runs a stage's container."""
        self._exit_code = run_container(self._terminal.line, **container)
        return self._exit_code

    def wrapped(self, original: RunTask) -> RunTask:
        """Kfp's function for one task, with the cache before it and the store around it."""

        def run(**task: Any) -> Outputs:
            handed_on = passed(task["component_spec"], task["arguments"])
            if handed_on is not None:
                return handed_on, status.Status.SUCCESS
            self.last = title = titled(self._titles[task["component_name"]], task["arguments"])
            self.model = getattr(task["arguments"].get(MODEL), "uri", "")
            self._terminal.start(title)
            image = task["executor_spec"].container.image if self._run.containers else None
            key = self._staging.key(task["component_spec"], task["executor_spec"], task["arguments"], image)
            known = self._staging.recall(key, title) if self._run.cache else None
            if known is not None:
                self._terminal.cached(title)
                return known, status.Status.SUCCESS
            outputs = self._executed(original, title, key, task)
            self._terminal.done(title)
            return outputs, status.Status.SUCCESS

        return run

    def _executed(self, original: RunTask, title: str, key: str, task: dict[str, Any]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="stage-", dir=self._work) as folder:
            task["arguments"] = self._staging.bring(task["arguments"], Path(folder) / "inputs")
            task["pipeline_root"] = folder  # a container sees all of it
            if self._run.containers:
                Path(folder).chmod(0o777)  # its user may be another one; only we get as far as here
            outputs, state = original(**task)
            if state != status.Status.SUCCESS:
                # Raised, not returned: kfp.local would try again, and the same input fails the same way.
                raise StageFailed(
                    f"{title}: {self._terminal.reason()}\nThe whole log: {self._run.folder / 'log.txt'}",
                    self._exit_code if 0 < self._exit_code < 128 else 1,
                )
            return self._staging.keep(key, title, outputs)


def _source(arguments: Mapping[str, Any]) -> Path | None:
    given = str(arguments.get("source", "s3://"))
    if given.startswith("s3://"):
        return None
    if not Path(given).is_dir():
        raise DataError(f"{given}: no such folder; give the folder that holds the data, or an s3:// URI")
    return Path(given)


def _environment(server: EmbeddedStore, work: Path, checkpoints: str, live: bool) -> dict[str, str]:
    temporary = work / "tmp"
    temporary.mkdir()
    root = str(Path(pipelines.__file__).parents[1])
    environment = {
        **os.environ,
        **server.env(),
        "MODALREC_CHECKPOINTS": checkpoints,
        # The stages import `components`, from wherever the run was started.
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "TMPDIR": str(temporary),
    }
    if live:
        environment.setdefault("MODALREC_PROGRESS_SECONDS", "1")
    return environment


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items()}
    return NULL if value is None else value
