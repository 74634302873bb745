"""Submitting, with the real client and the real command line: what the server gets, and what is told when it fails."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modalrec.errors import ConfigError, UpstreamError
from modalrec.testing.faults import running
from pipelines.runner import submit as submitting
from pipelines.runner.compile import COMPILED
from pipelines.runner.submit import TOKEN, Server
from tests.pipelines.server import Kubeflow, Refused

ROOT = Path(__file__).parents[2]
KFP = Path(sys.executable).parent / "kfp"
SESSIONS = {"source": "s3://raw/clicks"}


@pytest.fixture
def kubeflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    monkeypatch.setenv("HOME", str(tmp_path))  # the client keeps a context there
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(TOKEN, raising=False)
    server = Kubeflow()
    with running(server):
        yield server
        server.over.set()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the recipe as it was compiled before; other tests compile."""
    monkeypatch.setattr(submitting, "compile_recipe", lambda name, folder: COMPILED / f"{name}.yaml")


def submit(kubeflow: Kubeflow, arguments: dict[str, Any], timeout: float = 20, **who: Any) -> str:
    server = Server(kubeflow.address, timeout=timeout, **who)
    return server.submit("session", arguments, experiment="clicks", run_name="first")


def command(*words: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True)


@pytest.mark.usefixtures("compiled")
def test_the_recipe_is_uploaded_once_and_run_with_its_parameters(kubeflow: Kubeflow) -> None:
    arguments = {**SESSIONS, "seed": 7, "node_selector": {"pool": "gpu"}}
    identity = submit(kubeflow, arguments, namespace="films", service_account="modalrec-runner")
    run = kubeflow.runs[identity]
    (experiment,) = kubeflow.experiments.values()
    assert (experiment.display_name, experiment.namespace) == ("clicks", "films")
    assert (run.display_name, run.experiment_id) == ("first", experiment.experiment_id)
    assert run.runtime_config.parameters == arguments
    assert run.service_account == "modalrec-runner"
    version = kubeflow.versions[run.pipeline_version_reference.pipeline_version_id]
    assert re.fullmatch(r"session-[0-9a-f]{12}", version.display_name)
    assert kubeflow.pipelines[version.pipeline_id].display_name == "session"

    again = submit(kubeflow, SESSIONS)
    assert again != identity
    assert kubeflow.runs[again].pipeline_version_reference == run.pipeline_version_reference
    assert sum(request.startswith("POST /pipelines") for request in kubeflow.requests) == 2
    assert len(kubeflow.experiments) == 1


@pytest.mark.usefixtures("compiled")
def test_other_images_are_another_version(kubeflow: Kubeflow) -> None:
    submit(kubeflow, SESSIONS)
    words = [
        sys.executable,
        "-m",
        "pipelines",
        "submit",
        "session",
        "--endpoint",
        kubeflow.address,
        "source=s3://raw/x",
    ]
    done = command(*words, "--registry", "registry.example.org/team", "--tag", "a", "seed=3")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{kubeflow.address}/#/runs/details/[0-9a-f-]+\n", done.stdout)
    assert done.stderr == ""
    assert len(kubeflow.pipelines) == 1
    assert ["team/train:a" in str(version.pipeline_spec) for version in kubeflow.versions.values()] == [
        False,
        False,
        True,
    ]
    assert len(kubeflow.runs) == 2


@pytest.mark.parametrize("verb", ["create", "submit"])
def test_kubeflows_own_command_starts_the_compiled_recipe(kubeflow: Kubeflow, verb: str) -> None:
    """Both spellings; `submit` is the older one."""
    package = str(COMPILED / "semantic_id.yaml")
    call = [str(KFP), "--endpoint", kubeflow.address, "--output", "json", "run", verb]
    done = command(
        *call, "-e", "films", "-r", "second", "-f", package, "source=s3://raw/films", "preset=tiny", "seed=2"
    )
    assert done.returncode == 0, done.stderr
    (run,) = kubeflow.runs.values()
    assert run.display_name == "second"
    assert run.runtime_config.parameters == {"source": "s3://raw/films", "preset": "tiny", "seed": 2}
    assert set(run.pipeline_spec) == {"pipeline_spec", "platform_spec"}
    assert ("is deprecated" in done.stderr) == (verb == "submit")


def test_kubeflows_own_command_uploads_the_compiled_recipe(kubeflow: Kubeflow) -> None:
    words = ("pipeline", "create", "-p", "Semantic IDs", str(COMPILED / "semantic_id.yaml"))
    done = command(str(KFP), "--endpoint", kubeflow.address, *words)
    assert done.returncode == 0, done.stderr
    assert [pipeline.display_name for pipeline in kubeflow.pipelines.values()] == ["Semantic IDs"]


@pytest.mark.parametrize(
    ("parameter", "answer", "told"),
    [
        ("sauce", None, "parameter sauce is not an input of the pipeline"),
        ("source", Refused(401, "the token is expired"), "the token is expired"),
        ("source", Refused(500, "the database is gone"), "the database is gone"),
    ],
    ids=["wrong parameter", "expired token", "broken server"],
)
def test_kubeflows_own_command_ends_in_an_error(
    kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch, parameter: str, answer: Refused | None, told: str
) -> None:
    """From the run on; before it, the client asks a server that refuses again for half a minute."""

    def refuse(_: Any) -> None:
        raise answer  # type: ignore[misc]

    if answer is not None:
        monkeypatch.setattr(kubeflow, "_run", refuse)
    words = ("run", "create", "-e", "films", "-f", str(COMPILED / "semantic_id.yaml"), f"{parameter}=s3://raw/films")
    done = command(str(KFP), "--endpoint", kubeflow.address, *words)
    assert done.returncode != 0
    assert told in done.stderr
    assert kubeflow.runs == {}


@pytest.mark.usefixtures("compiled")
def test_wrong_parameters_are_told_before_the_server_is_asked(kubeflow: Kubeflow) -> None:
    with pytest.raises(ConfigError, match="presett: unknown parameter, did you mean preset"):
        submit(kubeflow, {**SESSIONS, "presett": 1})
    assert kubeflow.requests == []


@pytest.mark.usefixtures("compiled")
def test_a_refusal_is_told(kubeflow: Kubeflow) -> None:
    with pytest.raises(ConfigError, match=r"400 .*: parameter seed: 'seven' is no NUMBER_INTEGER\); correct"):
        submit(kubeflow, {**SESSIONS, "seed": "seven"})
    assert kubeflow.runs == {}


@pytest.mark.usefixtures("compiled")
def test_a_token_is_sent_and_an_expired_one_told(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow.token = "good"
    monkeypatch.setenv(TOKEN, "old")
    with pytest.raises(
        ConfigError, match=r"does not let you in \(401 .*: the token is expired\); put .* into KFP_TOKEN"
    ):
        submit(kubeflow, SESSIONS)
    monkeypatch.setenv(TOKEN, "good")
    assert submit(kubeflow, SESSIONS) in kubeflow.runs


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.usefixtures("compiled")
def test_a_broken_server_is_told(kubeflow: Kubeflow, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first request on, or from the first run on."""

    def broken(*_: Any) -> None:
        raise Refused(500, "the database is gone")

    monkeypatch.setattr(kubeflow, "_run" if late else "get", broken)
    with pytest.raises(UpstreamError, match=r"does not work .*500 .*: the database is gone"):
        submit(kubeflow, SESSIONS)
    assert kubeflow.runs == {}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.usefixtures("compiled")
def test_a_server_that_hangs_is_told_in_time(kubeflow: Kubeflow, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "_run" if late else "get", lambda *_: kubeflow.over.wait(60))
    began = time.monotonic()
    with pytest.raises(UpstreamError, match="did not answer within 1 s; look at"):
        submit(kubeflow, SESSIONS, timeout=1)
    assert time.monotonic() - began < 20


@pytest.mark.usefixtures("compiled")
def test_something_else_at_the_address_is_told(kubeflow: Kubeflow) -> None:
    kubeflow.page = True
    with pytest.raises(UpstreamError, match="does not answer as a Kubeflow Pipelines server"):
        submit(kubeflow, SESSIONS)


def test_no_server_is_one_message_and_an_exit_code() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        words = (
            sys.executable,
            "-m",
            "pipelines",
            "submit",
            "session",
            "source=s3://raw/clicks",
            "--endpoint",
            address,
        )
        done = command(*words, environment={"NO_PROXY": "127.0.0.1"})
    assert done.returncode == 5
    assert f"error: {address}: does not answer" in done.stderr
    assert "Traceback" not in done.stderr
