"""The two engines compute the same; which one runs; and life without numba."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modalrec import compiled
from modalrec.config import resolve
from modalrec.errors import ConfigError, TrainingError
from modalrec.recommenders import _gru4rec_kernels as kernels
from modalrec.recommenders._gru4rec_torch import TorchSteps
from modalrec.recommenders.gru4rec import GRU4RecConfig
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from tests.recommenders.gru4rec_cases import BOTH, build, small_sessions, start, trained

numba = pytest.mark.skipif(not compiled.AVAILABLE, reason="numba is not installed")

SETTINGS = st.fixed_dictionaries(
    {
        "loss": st.sampled_from(["cross-entropy", "bpr-max"]),
        "elu_param": st.sampled_from([0.0, 0.5, 1.0]),
        "bpreg": st.sampled_from([0.0, 1.0]),
        "logq": st.sampled_from([0.0, 0.5, 1.0]),
        "n_sample": st.sampled_from([0, 1, 40]),
        "sample_alpha": st.sampled_from([0.0, 0.7]),
        "layers": st.sampled_from([[5], [16], [8, 8], [6, 9, 4]]),
        "embedding": st.sampled_from(["constrained", "separate"]),
        "momentum": st.sampled_from([0.0, 0.5]),
        "shuffle_sessions": st.booleans(),
    }
)


@numba
@settings(max_examples=40)
@given(chosen=SETTINGS, batch_size=st.sampled_from([1, 2, 7, 80]), chunk=st.sampled_from([1, 5, 64]))
def test_fused_and_torch_agree_on_everything_that_both_can_do(
    chosen: dict[str, object], batch_size: int, chunk: int
) -> None:
    train = small_sessions(40, 25)
    if batch_size == 1 and not chosen["n_sample"]:
        return
    models, losses = zip(
        *(
            trained(train, max(1, 30 // chunk), batch_size=batch_size, chunk=chunk, engine=engine, **chosen)
            for engine in BOTH
        ),
        strict=True,
    )
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4, atol=1e-6)
    for key, value in models[0].state_dict().items():
        torch.testing.assert_close(value, models[1].state_dict()[key], rtol=1e-2, atol=2e-4, msg=key)


@pytest.mark.parametrize("engine", BOTH)
def test_chunks_do_not_change_a_bit(engine: str) -> None:
    train = small_sessions()
    drop = {"dropout_p_embed": 0.2, "dropout_p_hidden": 0.2, "momentum": 0.3}
    whole, _ = trained(train, 2, chunk=1000, engine=engine, **drop)
    parts, _ = trained(train, 2 * len(_plan(train)), chunk=1, engine=engine, **drop)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[key]), key


def _plan(train: object) -> list[np.ndarray]:
    batches = build(train.n_items).batches(train, 8, 0, augment=False)
    batches.chunk = 1
    return batches.plan(0)


@numba
def test_auto_takes_the_compiled_steps_where_they_can_run() -> None:
    train = small_sessions()
    fused = [start(build(train.n_items, **chosen), train, 4) for chosen in ({}, {"embedding": "separate"})]
    assert not any(isinstance(steps, TorchSteps) for steps in fused)
    for chosen in ({"bptt": 2}, {"embedding": "none"}, {"engine": "torch"}):
        assert isinstance(start(build(train.n_items, **chosen), train, 4), TorchSteps)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [({"bptt": 2}, "bptt"), ({"embedding": "none"}, "embedding=none"), ({"content": "sum"}, "content=sum")],
)
def test_fused_is_refused_with_the_reason_where_it_is_impossible(chosen: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"engine=fused cannot do {reason}; use engine=auto"):
        resolve(GRU4RecConfig, {"engine": "fused", **chosen})


def test_fused_is_refused_without_numba_and_off_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(GRU4RecConfig, {"engine": "fused"})
    with pytest.raises(ConfigError, match=r"engine: fused needs numba and a CPU \(the device is cuda\)"):
        config.runs_fused("cuda")
    monkeypatch.setattr(compiled, "AVAILABLE", False)
    with pytest.raises(ConfigError, match="fused needs numba"):
        config.runs_fused("cpu")
    assert not resolve(GRU4RecConfig, {}).runs_fused("cpu")


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize(
    "chosen", [{"loss": "bpr-max"}, {"loss": "cross-entropy"}, {"layers": [8, 8]}, {"momentum": 0.5}]
)
def test_nan_is_found_and_the_step_named(engine: str, chosen: dict[str, object]) -> None:
    train = small_sessions()
    model = build(train.n_items, engine=engine, **chosen)
    batches = model.batches(train, 8, 0, augment=False)
    config = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e30, weight_decay=0, clip_norm=0)
    with pytest.raises(TrainingError, match=r"epoch \d, step \d+ .*: loss .*; lower training.learning_rate \(1e\+30\)"):
        fit(model, batches, config=config, run=Run("test", device="cpu", quiet=True), fingerprint="x")


def test_compiled_dropout_drops_its_share_and_no_place_resembles_another() -> None:
    masks = {}
    for seed, epoch, step, layer in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
        mask = np.empty(40_000, np.float32)
        kernels.dropout_mask(mask, 0.3, seed, epoch, step, layer)
        assert set(np.unique(mask)) == {0, np.float32(1 / 0.7)}
        assert (mask == 0).mean() == pytest.approx(0.3, abs=0.01)
        masks[seed, epoch, step, layer] = mask - mask.mean()
    found = np.corrcoef(np.stack(list(masks.values())))
    assert np.abs(found - np.eye(len(masks))).max() < 0.02
    again = np.empty(40_000, np.float32)
    kernels.dropout_mask(again, 0.3, 0, 0, 1, 0)
    np.testing.assert_array_equal(again - again.mean(), masks[0, 0, 1, 0])
    lagged = [np.corrcoef(again[:-lag], again[lag:])[0, 1] for lag in (1, 2, 100)]
    assert np.abs(lagged).max() < 0.02


WITHOUT_NUMBA = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"numba", "llvmlite"}:
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocked())
import json, torch
torch.set_num_threads(1)
from modalrec import compiled
from tests.recommenders.gru4rec_cases import small_sessions, trained
assert not compiled.AVAILABLE
model, losses = trained(small_sessions(), 30, **json.loads(sys.argv[1]))
top = model.eval().recommend(small_sessions().histories(small_sessions().targets(0))[:5], 3, mask_seen=True)
print(json.dumps([losses, model.item_vectors.flatten().tolist(), top.items.tolist()]))
"""


@numba
def test_without_numba_training_gives_the_same_numbers() -> None:
    """The samples are the same ones, and `auto` takes torch: equal to the compiled steps up to rounding."""
    chosen = {"loss": "bpr-max", "momentum": 0.2, "n_sample": 24}
    command = [sys.executable, "-c", WITHOUT_NUMBA, json.dumps(chosen)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ended.returncode == 0, ended.stderr
    losses, vectors, items = json.loads(ended.stdout.splitlines()[-1])
    train = small_sessions()
    model, same = trained(train, 30, engine="torch", **chosen)
    assert losses == same
    assert vectors == model.item_vectors.flatten().tolist()
    assert items == model.eval().recommend(train.histories(train.targets(0))[:5], 3, mask_seen=True).items.tolist()
    np.testing.assert_allclose(losses, trained(train, 30, engine="fused", **chosen)[1], rtol=1e-5)
