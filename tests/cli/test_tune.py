"""`modalrec tune` from a file to a measured model, and the command that makes such files."""

import json
import re
from pathlib import Path

import pytest
import yaml

from modalrec.stages import load_stage
from modalrec.tuning.build import list_field
from modalrec.tuning.fields import EPOCH, QUANTIZED, printed
from tests.cli.conftest import Cli
from tests.pipelines.test_session import clicks
from tests.tuning.small import BOWL, changed, document, training


@pytest.fixture
def sessions(cli: Cli, tmp_path: Path) -> Path:
    code, _, err = cli(
        "ingest",
        "--source",
        clicks(tmp_path / "raw"),
        "--dataset",
        tmp_path / "dataset",
        "--preset",
        "session",
        "--quiet",
    )
    assert code == 0, err
    return tmp_path / "dataset"


def test_a_search_ends_in_settings_and_a_measured_model(cli: Cli, sessions: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "training.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(training(trials=1)))
    given = (
        "tune",
        file,
        "--dataset",
        sessions,
        "--out",
        out,
        "--evaluate",
        "1,5",
        "--final",
        "fit_on=train_and_valid",
    )
    code, printed_lines, err = cli(*given)
    assert code == 0, err
    results = json.loads((out / "results.json").read_text())
    assert re.match(rf"valid_mrr_20={results['best']['value']:.6g}\n", printed_lines)
    metrics = json.loads((out / "final" / "evaluation" / "metrics.json").read_text())
    assert {"recall_1", "recall_5", "mrr_5"} <= metrics.keys()
    assert "recall_10" not in metrics
    model = json.loads((out / "final" / "model" / "manifest.json").read_text())["config"]
    assert model["fit_on"] == "train_and_valid"
    assert model["training"]["epochs"] == results["best"]["metrics"][EPOCH]
    assert model["recommender"]["layers"] == [int(results["best"]["parameters"]["recommender.layers"])]
    assert (out / "report.html").stat().st_size > 5_000
    # The checks of an Experiment say what a training prints; this one did.
    log = (out / "trials" / "0000" / "log.txt").read_text()
    config = load_stage("finetune")[1]()
    assert all(re.search(rf"^{name}=[\d.]+$", log, re.MULTILINE) for name in printed("finetune", config))
    assert len(re.findall(r"^valid_mrr_20=", log, re.MULTILINE)) == 3, "after each of two epochs, and at the end"


def test_the_metrics_of_a_quantizer_are_printed(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "text_embeddings"
    assert cli("embed-text", "--dataset", dataset, "--text-embeddings", vectors, "--preset", "tiny", "--quiet")[0] == 0
    given = ("--embeddings", vectors, "--codes", tmp_path / "codes", "--preset", "tiny", "--set", "valid_share=0.3")
    code, out, err = cli("quantize", *given)
    assert code == 0, err
    assert all(re.search(rf"^{name}=[\d.e-]+$", out, re.MULTILINE) for name in {*QUANTIZED, EPOCH})
    assert len(re.findall(r"^held_out_relative_reconstruction_error=", out, re.MULTILINE)) == 4


def test_what_is_wrong_is_one_message(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(document(BOWL) | {"kind": "Trial"}))
    code, _, err = cli("tune", file, "--out", tmp_path / "out")
    assert (code, err.count("error: ")) == (2, 1)
    assert "kind: 'Trial' instead of 'Experiment'" in err
    file.write_text(yaml.safe_dump(document(BOWL)))
    assert "write list lengths with commas" in cli("tune", file, "--out", tmp_path / "out", "--evaluate", "ten")[2]
    assert not (tmp_path / "out").exists()


def test_a_search_that_fails_still_tells_what_it_found(cli: Cli, tmp_path: Path) -> None:
    file, out = tmp_path / "small.yaml", tmp_path / "out"
    code_of_trial = "print('score=0.5') if x == 1 else sys.exit('error: x is bad')"
    made = document(code_of_trial, [list_field("x", [1, 2, 3])], algorithm="grid", trials=3)
    file.write_text(yaml.safe_dump(changed(made, "spec", "maxFailedTrialCount", to=2)))
    code, _, err = cli("tune", file, "--out", out)
    assert (code, "2 trials have failed" in err) == (6, True)
    results = json.loads((out / "results.json").read_text())
    assert sum(row["error"] == "x is bad" for row in results["trials"]) == 2
    assert "x is bad" in (out / "report.html").read_text()


def test_a_last_training_that_was_interrupted_goes_on(
    cli: Cli, sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "training.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(training(trials=1)))
    given = ("tune", file, "--dataset", sessions, "--out", out, "--evaluate", "1")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("modalrec.cli.stages.remove", killed)  # the model is made, its checkpoints are still there
        assert cli(*given)[0] != 0
    kept = out / "final" / "model.checkpoints"
    assert kept.is_dir()
    code, _, err = cli(*given)
    assert code == 0, err
    assert "resuming at epoch" in err
    assert not kept.exists()


def test_a_parameter_space_becomes_a_file_that_tune_reads(cli: Cli, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"name":"layers", "dtype":"int", "values":[16, 32], "step":16}\n')
    code, out, err = cli("gru4rec-experiment", space, "--fixed", "loss=bpr-max,n_epochs=1", "--name", "mine")
    assert code == 0, err
    assert out.startswith("# space.json, with fixed parameters: loss=bpr-max,n_epochs=1.\n")
    made = yaml.safe_load(out)
    assert made["metadata"]["name"] == "mine"
    (tmp_path / "mine.yaml").write_text(out)
    code, _, err = cli("tune", tmp_path / "mine.yaml", "--out", tmp_path / "out", "--trials", "1")
    assert code == 2
    assert "--dataset: the trials read it from a store" in err
