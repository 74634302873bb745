"""The store killed (-9) in the middle of a run, and begun again: the run goes on, or its next start does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modalrec.artifacts import read_manifest, s3
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.artifacts.s3 import Store
from modalrec.artifacts.store import localized
from modalrec.errors import UpstreamError
from tests.faults.tiny import run_tiny, write_inputs
from tests.stores import Revived, revived


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("store_killed"))


@pytest.fixture(scope="module")
def whole(inputs: Path) -> str:
    """The digest of the model of a run without any fault."""
    return read_manifest(run_tiny("finetune sasrec", inputs, inputs / "whole"), "model").digest


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revived]:
    """A store of its own, to be killed: the one of other tests must live."""
    with EmbeddedStore(tmp_path_factory.mktemp("own") / "store") as store, revived(store) as found:
        yield found


@pytest.fixture
def environment(own: Revived, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in own.env().items():
        monkeypatch.setenv(name, value)


def killed_at(own: Revived, monkeypatch: pytest.MonkeyPatch, method: str, nth: int, after: float | None) -> list[int]:
    """Kills the server as the n-th request of a kind is made, and begins it again after some seconds, if at all."""
    plain: Callable[..., Any] = getattr(Store, method)
    calls: list[int] = []

    def dying(self: Store, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == nth:
            own.kill()
            if after is not None:
                own.revive(after)
        return plain(self, *arguments)

    monkeypatch.setattr(Store, method, dying)
    return calls


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """More attempts than by default: on a busy machine the server takes its time to come back."""
    made = Store.__init__

    def init(self: Store, *arguments: Any, **limits: Any) -> None:
        made(self, *arguments, **{**limits, "attempts": 40, "backoff_seconds": 0.3})

    monkeypatch.setattr(Store, "__init__", init)


@pytest.mark.fault("store_killed")
@pytest.mark.parametrize(("method", "nth"), [("put_bytes", 1), ("put_bytes", 3), ("names", 1), ("names", 4)])
def test_a_training_outlives_its_store(
    method: str, nth: int, own: Revived, environment: None, patient: None, inputs: Path, whole: str,
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    calls = killed_at(own, monkeypatch, method, nth, 0.5)
    made = run_tiny("finetune sasrec", inputs, tmp_path, {"checkpoints": prefix})
    assert len(calls) > nth
    assert read_manifest(made, "model").digest == whole


@pytest.mark.fault("store_killed")
@pytest.mark.parametrize("nth", [2, 4])
def test_a_training_whose_store_stays_away_ends_and_goes_on_later(
    nth: int, own: Revived, environment: None, inputs: Path, whole: str, prefix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        killed_at(own, patched, "put_bytes", nth, None)
        with pytest.raises(UpstreamError, match=r"does not answer, 5 attempts .* start the same command again"):
            run_tiny("finetune sasrec", inputs, tmp_path, {"checkpoints": prefix})
        assert not (tmp_path / "out").exists()
    own.revive()
    assert any(name.endswith(".pt") for name in Store.from_env().names(prefix)), "what was stored is there"
    made = run_tiny("finetune sasrec", inputs, tmp_path, {"checkpoints": prefix})
    assert read_manifest(made, "model").digest == whole


@pytest.mark.fault("store_killed")
@pytest.mark.parametrize("method", ["put_file", "get_file"])
def test_an_artifact_arrives_whole(
    method: str, own: Revived, environment: None, patient: None, inputs: Path, prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    killed_at(own, monkeypatch, method, 2, 0.5)
    Store.from_env().put_folder(inputs / "dataset", f"{prefix}/dataset")
    with localized(f"{prefix}/dataset") as copy:
        assert read_manifest(copy, "dataset") == read_manifest(inputs / "dataset", "dataset")


@pytest.mark.guard("store_killed")
def test_without_retries_the_training_ends(
    own: Revived, environment: None, inputs: Path, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "is_transient", lambda error: False)
    killed_at(own, monkeypatch, "put_bytes", 1, 0.5)
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        run_tiny("finetune sasrec", inputs, tmp_path, {"checkpoints": prefix})
    own.revive()
