import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from modalrec.artifacts import read_manifest
from modalrec.cli import main
from modalrec.config import PRESETS, dump, resolve
from modalrec.stages import STAGES, load_stage
from tests.cli.conftest import Cli


def test_help_answers_at_once_and_without_torch() -> None:
    script = "import sys; from modalrec.cli import main; assert not {'torch', 'pandas', 'kfp'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_python_m_modalrec_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "modalrec"], capture_output=True, text=True, check=False)
    assert "Commands:" in done.stdout + done.stderr


def test_settings_come_from_preset_file_and_set_in_this_order(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("min_item_events: 4\nvalid_share: 0.2\n")
    code, out, _ = cli("config", "ingest", "--preset", "tiny", "--config", file, "--set", "valid_share=0.3")
    found = yaml.safe_load(out)
    assert code == 0
    assert (found["min_user_events"], found["min_item_events"], found["valid_share"]) == (3, 4, 0.3)


@pytest.mark.parametrize("stage", STAGES)
def test_printed_settings_can_be_read_back(stage: str, cli: Cli) -> None:
    code, out, _ = cli("config", stage, "--preset", "tiny")
    assert code == 0
    _, config_class = load_stage(stage)
    again = resolve(config_class, yaml.safe_load(out))
    assert {field: f"{field}:" in out for field in dump(again)} == dict.fromkeys(dump(again), True)
    assert out.count("# ") >= len(dump(again)), "every field is explained"


def test_a_programming_error_keeps_its_traceback(
    cli: Cli, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modalrec.artifacts.manifest.json.loads", lambda _: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["modalrec", "show", str(dataset)])
    with pytest.raises(ZeroDivisionError):
        main()


def test_show_prints_manifest_and_lineage(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    text = tmp_path / "text_embeddings"
    cli("embed_text", "--dataset", dataset, "--text_embeddings", text, "--preset", "tiny")
    code, out, _ = cli("show", text)
    digest = read_manifest(dataset, "dataset").digest
    assert code == 0
    assert re.search(rf"`- dataset {digest[:12]}  ingest, [\d.]+ s", out)
    assert "name: hashing" in out
    code, out, _ = cli("show", text, "--json")
    assert json.loads(out)["inputs"] == {"dataset": digest}
    (text / "embeddings.parquet").write_bytes(b"cut")
    code, _, err = cli("show", text)
    assert code == 4
    assert "embeddings.parquet: has 3 bytes instead of" in err
    code, _, err = cli("show", tmp_path)
    assert code == 4
    assert "has no manifest.json; give the output folder of a stage" in err


def test_plugins_and_presets_are_listed(cli: Cli) -> None:
    _, out, _ = cli("plugins")
    for name in ("movielens", "hashing", "concat", "rqvae", "encoder_decoder"):
        assert re.search(rf"^  {name} +\w+", out, re.MULTILINE)
    _, out, _ = cli("presets")
    listed = dict(re.findall(r"^(\w+) +(\S.*)$", out, re.MULTILINE))
    assert set(listed) == {path.stem for path in PRESETS.glob("*.yaml")}
    assert listed["laptop"].startswith("For a laptop")
