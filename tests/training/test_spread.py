"""Tables whose rows TorchRec spreads over two processes are trained as in one; on CPUs, which is all that was tried."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modalrec.errors import ConfigError
from modalrec.recommenders import load_recommender
from modalrec.recommenders.dlrm import DLRMConfig
from modalrec.training import spread as module
from modalrec.training.loop import TrainingConfig
from modalrec.training.team import Team
from tests.training.spread import train
from tests.training.test_together import in_two_processes, same
from tests.training.together import recommender


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and what two processes have left in it, over gloo."""
    pytest.importorskip(
        "torchrec", reason="TorchRec is not installed: pip install 'modalrec[torchrec]'", exc_type=Exception
    )
    folder = tmp_path_factory.mktemp("spread")
    in_two_processes("tests.training.spread", folder)
    return folder, torch.load(folder / "found.pt", weights_only=True)


def test_spread_tables_learn_what_whole_ones_learn(of_two: tuple[Path, dict[str, Any]]) -> None:
    _, found = of_two
    model, history = train("local", 2)
    whole = model.state_dict()
    assert found["whole"].keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(found["whole"][name], value, rtol=1e-4, atol=1e-6, msg=name)
    for one, other in zip(found["history"], history, strict=True):
        assert one == pytest.approx(other, rel=1e-5)
    fresh = recommender("dlrm")[0].state_dict()
    assert all((fresh[f"fields.tables.{owner}_id.weight"] != found["whole"][f"fields.tables.{owner}_id.weight"]).any()
               for owner in ("user", "item"))  # fmt: skip


def test_a_run_goes_on_where_it_ended(of_two: tuple[Path, dict[str, Any]]) -> None:
    _, found = of_two
    assert same(found["resumed"], found["whole"])
    assert found["later"] == found["history"]


def test_the_model_is_read_by_one_process_without_torchrec(of_two: tuple[Path, dict[str, Any]]) -> None:
    folder, found = of_two
    model = load_recommender(folder / "model")
    assert type(model.fields.tables["user_id"]) is nn.Embedding
    torch.testing.assert_close(
        model.fields.tables["user_id"].weight.data, found["whole"]["fields.tables.user_id.weight"]
    )


def test_what_cannot_be_spread_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="placement: torchrec updates rows by tables=row_adagrad"):
        DLRMConfig(placement="torchrec", tables="adam")
    model, _ = recommender("dlrm", placement="torchrec", embedding_decay=0.0)
    with pytest.raises(ConfigError, match=r"training.accumulate: 4 batches a step, .* set it to 2"):
        model.spread(TrainingConfig(accumulate=4), Team(size=2))
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(ConfigError, match=r"TorchRec cannot be loaded .*pip install 'modalrec\[torchrec\]'"):
        module.SpreadTable(nn.Embedding(3, 2), Team(size=2))
    before = dict(model.fields.tables)
    model.spread(TrainingConfig(), Team())
    assert dict(model.fields.tables) == before, "a process by itself has the whole"
