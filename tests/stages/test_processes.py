"""A stage under `torchrun`, as a component starts it where there are several GPUs; here with two processes on a CPU."""

from pathlib import Path

import numpy as np
import pytest

from modalrec.artifacts import read_manifest
from modalrec.config import resolve
from modalrec.run import Run
from modalrec.stages import load_stage
from modalrec.stages.processes import PROCESSES, run_stage, usable
from tests.stages.small import write_embeddings

SETTINGS = {"quantizer": {"name": "rqvae", "levels": 2, "codebook_size": 8, "hidden": [16]}, "training": {"epochs": 2}}


def test_two_processes_write_what_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors_ND = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_ND)
    config = resolve(load_stage("quantize")[1], SETTINGS, {"training": {"accumulate": 2, "batch_size": 32}})
    found = {}
    for processes in (1, 2):
        monkeypatch.setenv(PROCESSES, str(processes))
        codes = tmp_path / f"codes-{processes}"
        run = Run("quantize", seed=1, device="cpu", checkpoints=str(tmp_path / f"kept-{processes}"))
        numbers = run_stage("quantize", {"embeddings": embeddings, "dataset": None, "codes": codes}, config, run)
        found[processes] = (numbers, read_manifest(codes, "codes").digest)
    assert found[1] == found[2]


def test_devices_that_have_nothing_to_do_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More GPUs than an optimizer step has batches for: the settings decide, and not the node."""
    vectors_ND = np.random.default_rng(0).standard_normal((50, 12)).astype(np.float32)
    embeddings = write_embeddings(tmp_path / "embeddings", vectors_ND)
    config = resolve(load_stage("quantize")[1], SETTINGS, {"training": {"epochs": 1}})
    edges = {"embeddings": embeddings, "dataset": None, "codes": tmp_path / "codes"}
    monkeypatch.setenv(PROCESSES, "4")
    run_stage("quantize", edges, config, Run("quantize", device="cpu"))
    assert "1 of 4 GPUs trains" in (said := capsys.readouterr().err)
    assert "set it to a multiple of 4, or ask for fewer" in said


def test_as_many_processes_as_share_a_step_evenly() -> None:
    assert [usable(devices, 1) for devices in (0, 1, 8)] == [1, 1, 1]
    assert [usable(devices, 4) for devices in (1, 2, 3, 4, 8)] == [1, 2, 2, 4, 4]
