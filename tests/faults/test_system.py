"""A machine that refuses: a full disk, a place that cannot be written, no HOME, no temporary folder."""

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import files, read_manifest
from modalrec.cli import main
from modalrec.errors import UpstreamError, told
from modalrec.testing.quantizers import mixture
from tests.stages.small import write_embeddings

SMALL = ["--set", "quantizer={name: rq_kmeans, levels: 2, codebook_size: 16}"]


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    return write_embeddings(tmp_path / "vectors", mixture()[0].numpy().astype(np.float32))


def quantize(
    vectors: Path, codes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and message of the command."""
    command = ["modalrec", "quantize", "--embeddings", str(vectors), "--codes", codes, *SMALL]
    monkeypatch.setattr(sys, "argv", command)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    return int(ended.value.code or 0), capsys.readouterr().err


def full(number: int) -> object:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.fault("system")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_what_the_machine_refuses_is_one_error_and_leaves_nothing(
    number: int, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files.os, "fsync", full(number))
    code, said = quantize(vectors, str(tmp_path / "codes"), monkeypatch, capsys)
    assert code == UpstreamError.exit_code
    assert f"error: {os.strerror(number)}; " in said
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]


@pytest.mark.fault("system")
@pytest.mark.parametrize("room", [0, 500, 3000])
def test_a_disk_that_takes_no_more_bytes(
    room: int, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The kernel refuses every byte behind the first so many of a file, for all writers alike: Arrow, Rust, Python."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        code, said = quantize(vectors, str(tmp_path / "codes"), monkeypatch, capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == UpstreamError.exit_code
    assert "File too large; free some space there" in said
    assert [path.name for path in tmp_path.iterdir()] == ["vectors"]


@pytest.mark.fault("system")
def test_no_home_and_no_temporary_folder_of_its_own(vectors: Path, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    environment |= {"TMPDIR": str(tmp_path / "nowhere"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "modalrec", "quantize", "--embeddings", vectors, "--codes", tmp_path / "codes"]
    done = subprocess.run([*command, *SMALL], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read_manifest(tmp_path / "codes", "codes")


@pytest.mark.fault("system")
def test_no_place_for_temporary_files_at_all(
    vectors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bucket as output goes through one."""
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setattr("modalrec.artifacts.store.Store.exists", lambda self, uri: False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    code, said = quantize(vectors, "s3://bucket/codes", monkeypatch, capsys)
    assert code == UpstreamError.exit_code
    assert "set TMPDIR to one that can be written" in said


@pytest.mark.fault("system")
@pytest.mark.parametrize(
    "error",
    [OSError("[errno 28] Error writing bytes"), RuntimeError("I/O error: No space left on device (os error 28)")],
    ids=["Arrow", "Rust"],
)
def test_writers_in_other_languages_are_understood(error: Exception) -> None:
    assert "No space left on device; free some space" in str(told(error))


def test_errors_of_the_program_are_not_hidden() -> None:
    assert told(ZeroDivisionError("a bug")) is None
    assert told(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


@pytest.mark.guard("system")
def test_without_it_a_full_disk_is_a_traceback(
    vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("modalrec.cli.app.told", lambda error: None)
    monkeypatch.setattr(files.os, "fsync", full(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        quantize(vectors, str(tmp_path / "codes"), monkeypatch, capsys)
