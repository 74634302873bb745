"""Two processes train the same models as one, for every model that learns by gradient."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from modalrec import plugins
from modalrec.errors import ConfigError
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.team import Team, refuse_uneven
from tests.training import together

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> together.Weights:
    """What two processes have trained, over gloo."""
    folder = tmp_path_factory.mktemp("together")
    said = in_two_processes("tests.training.together", folder)
    assert [out.split() for out in said] == [["stopped"], ["stopped"]]  # though one was asked to
    return torch.load(folder / "weights.pt", weights_only=True)


def in_two_processes(module: str, folder: Path) -> list[str]:
    """Runs a module as a team of two, and returns what each wrote."""
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    members = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder)],
            cwd=ROOT,
            env={**os.environ, **team, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [member.communicate(timeout=600) for member in members]
    assert [member.returncode for member in members] == [0, 0], said
    return [out for out, _ in said]


def free_port() -> int:
    import socket

    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return int(place.getsockname()[1])


def test_two_processes_train_the_same_models_as_one(of_two: together.Weights) -> None:
    """To the bit: the mean of two gradients does not depend on their order."""
    of_one = together.train_all()
    assert of_two.keys() - {"interrupted"} == of_one.keys()
    assert len(of_one) > 10
    different = [name for name in of_one if not same(of_one[name], of_two[name])]
    assert different == []
    fresh = {name: model.state_dict() for name, (model, _) in together.cases().items()}
    assert [name for name in of_one if same(of_one[name], fresh[name])] == []


def test_no_model_is_left_out() -> None:
    """A new plug-in is among the cases unless it does not learn by gradient; then it says so here."""
    kinds = ("fusers", "quantizers", "recommenders")
    known = {f"{kind.removesuffix('s')} {name}" for kind in kinds for name in plugins.discover(kind)}
    covered = {title.partition(",")[0] for title in together.cases()}
    assert known - covered == {"fuser concat", "fuser sum", "quantizer opq", "quantizer pq", "quantizer rq_kmeans"}


def test_one_process_is_told_to_stop_and_both_go_on_later(of_two: together.Weights, tmp_path: Path) -> None:
    """The leader keeps the checkpoint of the step at which both stopped, and measures for both."""
    assert same(together.interrupted(tmp_path), of_two["interrupted"])


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_four_batches_a_step_are_one_batch_of_four() -> None:
    """The mean of gradients is what it says: equal parts of a batch give the whole batch's step, up to rounding."""
    found = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        model, vectors = Line(), torch.randn(64, 3)
        run = Run("together", device="cpu", quiet=True)
        batches = together.VectorBatches(vectors.numpy(), 64 // accumulate, run)
        fit(model, batches, config=TrainingConfig(epochs=3, accumulate=accumulate), run=run, fingerprint="f" * 64)
        found.append(model.weight.detach())
    torch.testing.assert_close(found[0], found[1])


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3, 3))

    def loss(self, vectors_ND: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (vectors_ND @ self.weight - vectors_ND.flip(1)).square().mean()}


def test_what_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"accumulate: 3 batches .* 2 processes; set it to a multiple of 2"):
        refuse_uneven(Team(0, 2), 3)
    model, batches = together.recommender("gru4rec", engine="fused")
    plain = together.CONFIG.model_copy(update={"weight_decay": 0.0, "clip_norm": 0.0})
    with pytest.raises(ConfigError, match="fused learns from one stream of sessions"):
        fit(model, batches, config=plain, run=Run("together", quiet=True), fingerprint="f" * 64)


def test_streams_share_the_sessions_out() -> None:
    """Every session is in one stream, and each stream has samples of its own; those that end early wait."""
    _, batches = together.recommender("gru4rec")
    streams = batches.apart(3)
    plan = streams.plan(0)
    seen = [streams.build(0, place, indices) for place, indices in enumerate(plan)]
    whole = [batches.build(0, place, indices) for place, indices in enumerate(batches.plan(0))]
    for name in ("inputs", "targets"):
        assert torch.cat([one[name] for one in seen]).sort()[0].equal(torch.cat([one[name] for one in whole]).sort()[0])
    assert len(plan) % 3 == 0
    for group in range(0, len(plan), 3):
        assert {int(one["rounds"]) for one in seen[group : group + 3]} == {
            max(len(one["lanes"]) for one in seen[group : group + 3])
        }
    assert not torch.equal(seen[0]["samples"][0], seen[1]["samples"][0])
