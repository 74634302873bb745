"""`recommend` and `encode-items` as commands."""

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.stages.test_encode_items import KNOWN, MODELS, NEW, chain, table, train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train(chain(folder, KNOWN), folder / "model", MODELS["sasrec"])


def test_a_new_item_is_recommended_without_training(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(table(NEW))
    code, out, err = cli(
        "encode-items", "--model", model, "--items", tmp_path / "new.csv", "--encoded", tmp_path / "today"
    )
    assert code == 0, err
    assert "2 items added, 0 were there; 10 in all" in out + err
    code, out, err = cli("recommend", "--model", tmp_path / "today", "--history", "f2,gone", "--k", "9")
    assert code == 0, err
    assert "passed over, since the model does not have them: gone" in out + err
    lines = [line.split(maxsplit=3) for line in out.splitlines() if line.lstrip()[:1].isdigit()]
    assert [int(place) for place, *_ in lines] == list(range(1, 10))
    assert {item: title for _, _, item, title in lines}.items() >= NEW.items()


@pytest.mark.parametrize("options", [(), ("--history", "f1", "--users", "users.parquet"), ("--users", "u.parquet")])
def test_one_way_of_asking_is_needed(options: tuple[str, ...], cli: Cli, model: Path) -> None:
    code, _, err = cli("recommend", "--model", model, *options)
    assert code == 2
    assert "give --history ITEM,ITEM, or --users FILE and --out FILE" in err
