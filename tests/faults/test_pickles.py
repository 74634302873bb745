"""Pickles planted where something else belongs: refused, and what they would do is not done."""

import hashlib
import io
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modalrec.cli import main
from modalrec.errors import ArtifactError
from modalrec.quantizers import load_quantizer
from modalrec.recommenders import load_recommender
from modalrec.run import Run
from modalrec.training.checkpoint import Checkpoints
from tests.faults.tiny import run_tiny, write_inputs


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The side effect, which must be absent in the end."""
    return tmp_path / "done"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and, beside it, a quantizer."""
    folder = tmp_path_factory.mktemp("pickles")
    inputs = write_inputs(folder / "inputs")
    run_tiny("finetune sasrec", inputs, folder)
    (run_tiny("quantize pq", inputs, folder / "codes")).rename(folder / "quantizer")
    return folder


def _torch(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": value}, buffer)
    return buffer.getvalue()


def _numpy(value: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([value], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FORMS = {
    "pickle": pickle.dumps,
    "protocol 0": lambda value: pickle.dumps(value, protocol=0),
    "torch": _torch,
    "numpy": _numpy,
}


@pytest.mark.fault("pickles")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "quantizer.safetensors", "quantizer.json"])
def test_a_planted_pickle_is_no_part_of_a_model(file: str, form: str, model: Path, mark: Path, tmp_path: Path) -> None:
    source, load = (model / "quantizer", load_quantizer) if file[0] == "q" else (model / "out", load_recommender)
    copy = Path(shutil.copytree(source, tmp_path / "copy"))
    (copy / file).write_bytes(FORMS[form](Touch(mark)))
    with pytest.raises(ArtifactError, match=r"not a \w+ of this version"):
        load(copy)
    assert not mark.exists()


@pytest.mark.fault("pickles")
@pytest.mark.parametrize("form", FORMS)
def test_a_planted_checkpoint_is_left_for_the_one_before(form: str, mark: Path, tmp_path: Path) -> None:
    """Also where its name carries the digest that its content has."""
    checkpoints = Checkpoints(Run("quantize", checkpoints=str(tmp_path), quiet=True), "f" * 64)
    checkpoints.save(1, 0, {"step": 1})
    content = FORMS[form](Touch(mark))
    planted = next(tmp_path.rglob("step-*.pt")).with_name(
        f"step-0000000002-000000-{hashlib.sha256(content).hexdigest()}.pt"
    )
    planted.write_bytes(content)
    assert checkpoints.load() == {"step": 1}
    assert not mark.exists()


@pytest.mark.fault("pickles")
@pytest.mark.parametrize("allow", [False, True], ids=["refused", "--allow-pickle"])
@pytest.mark.parametrize("form", FORMS)
def test_a_planted_table_of_sessions_runs_nothing(
    form: str, allow: bool, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "raw").mkdir()
    for name in ("train.pickle", "test.pickle"):
        (tmp_path / "raw" / name).write_bytes(FORMS[form](Touch(mark)))
    command = ["modalrec", "ingest", "--source", str(tmp_path / "raw"), "--dataset", str(tmp_path / "dataset")]
    settings = ["--set", "source={name: sessions, train: train.pickle, test: test.pickle}"]
    monkeypatch.setattr("sys.argv", [*command, *settings, *(["--allow-pickle"] if allow else [])])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (2, 3)
    assert "pickle" in capsys.readouterr().err
    assert not mark.exists()
    assert not (tmp_path / "dataset").exists()


@pytest.mark.guard("pickles")
@pytest.mark.parametrize("form", FORMS)
def test_read_by_pickles_own_reader_they_do_it(form: str, mark: Path, tmp_path: Path) -> None:
    """So their absence above says something."""
    path = tmp_path / "planted"
    path.write_bytes(FORMS[form](Touch(mark)))
    if form == "torch":
        torch.load(path, weights_only=False)
    elif form == "numpy":
        np.load(path, allow_pickle=True)
    else:
        pickle.loads(path.read_bytes())  # noqa: S301 -- that is the point
    assert mark.exists()
