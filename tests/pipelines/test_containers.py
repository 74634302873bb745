"""Stages in containers: output line by line, the exit code, nothing left behind; `images/test` runs real ones."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError, ImageNotFound

from modalrec.artifacts.store import Store
from modalrec.errors import UpstreamError
from pipelines.runner import containers
from pipelines.runner.containers import container_runner, run_container
from pipelines.runner.staging import Staging
from tests.pipelines.toy import pipeline

COMMAND = ["python", "-c", "pass"]


class Engine:
    """A client of a Docker engine, and its one container."""

    def __init__(self, chunks: list[bytes], code: int = 0, trouble: Exception | None = None) -> None:
        self.containers = self
        self.chunks, self.code, self.trouble = chunks, code, trouble
        self.given: dict[str, Any] = {}
        self.removed = False

    def create(self, image: str, command: list[str], **options: Any) -> "Engine":
        if isinstance(self.trouble, ImageNotFound):
            raise self.trouble
        self.given = {"image": image, "command": command, **options}
        return self

    def start(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def logs(self, stream: bool, follow: bool) -> Iterator[bytes]:
        yield from self.chunks

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self.code}

    def remove(self, force: bool) -> None:
        self.removed = force


def run(engine: Engine) -> tuple[int, list[str]]:
    lines: list[str] = []
    code = run_container(
        lines.append, client=engine, image="team/train:1", command=COMMAND, volumes={}, user="1000:1000"
    )
    return code, lines


def test_output_comes_in_lines_however_it_is_cut() -> None:
    engine = Engine([b"[fuse] it", b"ems\nerror: no", b" rows\n", "caf\u00e9".encode()[:-1]], code=3)
    assert run(engine) == (3, ["[fuse] items", "error: no rows", "caf\ufffd"])
    assert engine.given == {"image": "team/train:1", "command": COMMAND, "volumes": {}, "user": "1000:1000"}
    assert engine.removed


class Endless:
    """Output that an engine never ends, as podman 4 at times where a container is gone."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks, self.closed = chunks, threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks
        assert self.closed.wait(20), "nobody has closed it"

    def close(self) -> None:
        self.closed.set()


def test_output_ends_with_the_container_where_the_engine_forgets_to_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "DRAIN_SECONDS", 0.1)
    engine = Engine([], code=3)
    monkeypatch.setattr(engine, "logs", lambda stream, follow: Endless([b"one\ntwo\n"]))
    assert run(engine) == (3, ["one", "two"])
    assert engine.removed


def test_an_image_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(UpstreamError, match="team/train:1: no such image; build it with `make images`"):
        run(Engine([], trouble=ImageNotFound("x", explanation="no such image")))


def test_a_container_that_does_not_start_leaves_nothing_behind() -> None:
    engine = Engine([], trouble=APIError("x", explanation="no space left"))
    with pytest.raises(UpstreamError, match="team/train:1: no space left"):
        run(engine)
    assert engine.removed


def test_a_container_may_no_more_than_a_pod() -> None:
    given = container_runner({"AWS_REGION": "here"}).container_run_args
    assert given["environment"] == {"AWS_REGION": "here"}
    assert (given["read_only"], given["cap_drop"], given["security_opt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert "privileged" not in given


def test_a_changed_image_or_setting_is_never_found_in_the_cache() -> None:
    staging = Staging(cast(Store, SimpleNamespace()), "toy")
    spec = pipeline.pipeline_spec
    executor = _executors()["exec-make"]
    keys = [
        staging.key(spec.components["comp-make"], executor, arguments, image)
        for image in (None, "team/train:1", "team/train:2")
        for arguments in ({"journal": "a", "settings": {}}, {"journal": "a", "settings": {"x": 1}})
    ]
    assert len(set(keys)) == len(keys)


def _executors() -> dict[str, Any]:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    config = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(json_format.MessageToDict(pipeline.pipeline_spec.deployment_spec), config)
    return dict(config.executors)
