"""A resumed run ends with the same bits: weights, optimizer, lanes' states, samples and dropout."""

import io
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from modalrec.recommenders.gru4rec import GRU4Rec
from modalrec.training.steps import Steps
from tests.recommenders.gru4rec_cases import BOTH, build, learn, small_sessions, start
from tests.recommenders.gru4rec_killed import DROPPED, train

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, dict[str, Any]] = {
    "constrained": {"loss": "bpr-max", **DROPPED},
    "two_layers": {"layers": [8, 6], "logq": 1.0, **DROPPED},
    "separate": {"embedding": "separate", **DROPPED},
    "without_momentum": {**DROPPED, "momentum": 0.0},
    "shuffled": {"shuffle_sessions": True, **DROPPED},
    "without_samples": {**DROPPED, "n_sample": 0},
    "none": {"embedding": "none", **DROPPED},
    "bptt": {"bptt": 2, **DROPPED},
}
RUNS = [(name, engine) for name in SETTINGS for engine in BOTH if engine == "torch" or name not in {"none", "bptt"}]


def make(name: str, engine: str, seed: int) -> tuple[GRU4Rec, Any, Steps]:
    torch.manual_seed(seed)
    sessions = small_sessions()
    model = build(sessions.n_items, engine=engine, initialisation="random", **SETTINGS[name])
    batches = model.batches(sessions, 8, 0, augment=False)
    batches.chunk = 4
    return model, batches, start(model, sessions, 8)


def flat(state: Any) -> list[torch.Tensor]:
    """All tensors of a nested state."""
    if isinstance(state, torch.Tensor):
        return [state]
    return [leaf for part in (state.values() if isinstance(state, dict) else state) for leaf in flat(part)]


@pytest.mark.parametrize("after", [1, 5, 9])
@pytest.mark.parametrize(("name", "engine"), RUNS)
def test_exact_resume_in_the_middle_of_an_epoch(name: str, engine: str, after: int) -> None:
    """Through a file, into a model with other weights; 9 chunks are one epoch, 5 are in the middle of a store."""
    model, batches, steps = make(name, engine, 0)
    learn(steps, batches, after, 0.05)
    stored = io.BytesIO()
    torch.save({"model": model.state_dict(), "steps": steps.state_dict(), "rng": torch.get_rng_state()}, stored)
    losses = learn(steps, batches, 12, 0.05, first=after)

    resumed, again, restored = make(name, engine, 1)
    found = torch.load(io.BytesIO(stored.getvalue()), weights_only=True)
    resumed.load_state_dict(found["model"])
    restored.load_state_dict(found["steps"])
    torch.set_rng_state(found["rng"])
    assert learn(restored, again, 12, 0.05, first=after) == losses
    for key, value in model.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    for mine, theirs in zip(flat(steps.state_dict()), flat(restored.state_dict()), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.fault("kill")
@pytest.mark.parametrize(
    ("engine", "step", "name"), [("fused", 1, "SIGKILL"), ("fused", 13, "SIGTERM"), ("torch", 7, "SIGKILL")]
)
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, engine: str, step: int, name: str) -> None:
    number = getattr(signal, name)
    command = [sys.executable, "-m", "tests.recommenders.gru4rec_killed", str(tmp_path / "cut"), engine, str(step)]
    command.append(str(int(number)))
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == (143 if name == "SIGTERM" else -number), ended.stderr
    assert any((tmp_path / "cut").rglob("step-*.pt"))
    resumed, whole = train(str(tmp_path / "cut"), engine), train(str(tmp_path / "whole"), engine)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def bits(engine: str, seed: int, **settings: Any) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    sessions = small_sessions()
    model = build(sessions.n_items, engine=engine, **settings)
    batches = model.batches(sessions, 8, seed, augment=False)
    learn(start(model, sessions, 8, seed), batches, 3, 0.05)
    return [value.clone() for value in model.state_dict().values()]


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="sampling"),
        pytest.param({"n_sample": 0, "dropout_p_embed": 0.2}, id="dropout of inputs"),
        pytest.param({"n_sample": 0, "dropout_p_hidden": 0.2}, id="dropout of states"),
        pytest.param({"n_sample": 0, "shuffle_sessions": True}, id="order of sessions"),
        pytest.param({"n_sample": 0, "initialisation": "random"}, id="first weights"),
    ],
)
def test_same_seed_same_bits_and_another_seed_others(engine: str, settings: dict[str, Any]) -> None:
    assert same(bits(engine, 0, **settings), bits(engine, 0, **settings))
    assert not same(bits(engine, 0, **settings), bits(engine, 1, **settings))


@pytest.mark.parametrize("engine", BOTH)
def test_nothing_is_random_without_samples_dropout_and_shuffling(engine: str) -> None:
    """The first weights of the compatible mode have a seed of their own."""
    assert same(bits(engine, 0, n_sample=0), bits(engine, 1, n_sample=0))
