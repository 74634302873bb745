"""Parameter strings and files of the authors' `run.py` become settings of finetune; nothing in them is executed."""

from pathlib import Path

import pytest

from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.recommenders._gru4rec_parameters import finetune_settings
from modalrec.stages.train import TrainConfig


def test_a_parameter_string() -> None:
    found = finetune_settings("layers=200/100,loss=bpr-max,n_epochs=3,batch_size=80,learning_rate=0.05,momentum=0.4")
    assert found == {
        "recommender": {
            "name": "gru4rec",
            "layers": [200, 100],
            "embedding": "constrained",
            "loss": "bpr-max",
            "momentum": 0.4,
        },
        "training": {"epochs": 3, "batch_size": 80, "learning_rate": 0.05},
    }
    config = resolve(TrainConfig, found)
    assert config.recommender.layers == (200, 100)
    assert (config.training.epochs, config.training.schedule, config.training.weight_decay) == (3, "constant", 0)


@pytest.mark.parametrize(
    ("given", "embedding", "size"),
    [
        ("constrained_embedding=True,embedding=50", "constrained", 0),
        ("constrained_embedding=False,embedding=50", "separate", 50),
        ("constrained_embedding=0,embedding=layersize,layers=70", "separate", 70),
        ("constrained_embedding=False", "none", 0),
    ],
)
def test_the_three_embedding_modes(given: str, embedding: str, size: int) -> None:
    recommender = resolve(TrainConfig, finetune_settings(given)).recommender
    assert (recommender.embedding, recommender.embedding_size) == (embedding, size)


@pytest.mark.parametrize(
    "form", ["OrderedDict([('layers', [64]), ('loss', 'bpr-max')])", "{'layers': [64], 'loss': 'bpr-max'}"]
)
def test_a_parameter_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / "best.py"
    path.write_text(f"from collections import OrderedDict\n\ngru4rec_params = {form}\n")
    assert finetune_settings(str(path))["recommender"]["layers"] == [64]


def test_a_parameter_file_is_never_executed(tmp_path: Path) -> None:
    path, proof = tmp_path / "evil.py", tmp_path / "proof"
    path.write_text(f"open({str(proof)!r}, 'w')\ngru4rec_params = dict([('layers', __import__('os').getpid())])\n")
    with pytest.raises(ConfigError, match="read, not executed"):
        finetune_settings(str(path))
    assert not proof.exists()


def test_all_problems_at_once_with_what_was_meant() -> None:
    with pytest.raises(ConfigError) as error:
        finetune_settings("lyers=3,batch_size=1.5,loss=top1,constrained_embedding=maybe,layers=a/b")
    assert str(error.value).splitlines() == [
        "parameters: lyers: unknown parameter, did you mean layers?",
        "parameters: batch_size: '1.5' is not a whole number",
        "parameters: constrained_embedding: 'maybe' is not True or False",
        "parameters: layers: 'a/b' is not whole numbers with / between",
    ]
    with pytest.raises(ConfigError, match=r"recommender.loss: Input should be 'cross-entropy' or 'bpr-max'"):
        resolve(TrainConfig, finetune_settings("loss=top1"))


@pytest.mark.parametrize("content", ["gru4rec_params =", "x = 1", "gru4rec_params = 3"])
def test_files_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.py"):
        finetune_settings(str(path))
    with pytest.raises(ConfigError, match=r"missing\.py"):
        finetune_settings(str(tmp_path / "missing.py"))
