import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from modalrec.artifacts import read_manifest
from modalrec.artifacts.embedded import EmbeddedStore
from modalrec.stages import STAGES
from tests.cli.conftest import Cli
from tests.raw import write_atomic

COMMON = {"preset", "config", "set", "seed", "device", "checkpoints", "metrics", "quiet", "help"}

OWN = {"ingest": {"allow-pickle"}}


@pytest.mark.parametrize("stage", STAGES)
def test_the_options_of_a_stage_are_its_edges(stage: str, cli: Cli) -> None:
    code, out, _ = cli(stage, "--help")
    spec = STAGES[stage]
    assert code == 0
    assert set(re.findall(r"--([\w-]+)", out.split("Options:")[1])) == {
        *spec.inputs,
        *spec.optional,
        *spec.outputs,
    } | COMMON | OWN.get(stage, set())
    assert spec.summary.split()[0] in out
    assert f"modalrec config {stage}" in out


def test_stages_chain_over_folders(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    text = tmp_path / "text_embeddings"
    code, out, err = cli(
        "embed-text", "--dataset", dataset, "--text-embeddings", text, "--preset", "tiny", "--seed", "3"
    )
    assert code == 0, err
    manifest = read_manifest(text, "embeddings")
    assert manifest.seed == 3
    assert manifest.inputs == {"dataset": read_manifest(dataset, "dataset").digest}
    assert re.search(r"^\w+=[\d.e+-]+$", out, re.MULTILINE), "metrics as Katib reads them"
    assert cli("fuse", "--text_embeddings", text, "--embeddings", tmp_path / "embeddings", "--quiet") == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "embeddings", "raw", "text_embeddings"]


def test_all_stages_in_order_end_in_a_report(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    made = {"dataset": dataset}
    for name, spec in list(STAGES.items())[1:]:
        output = spec.outputs[0]
        edges = {edge: made[edge] for edge in (*spec.inputs, *spec.optional) if edge in made} | {
            output: tmp_path / output
        }
        words = [word for edge, folder in edges.items() for word in (f"--{edge}", folder)]
        code, out, err = cli(name, *words, "--preset", "tiny")
        assert code == 0, err
        made[output] = tmp_path / output
    assert re.search(r"^recall_10=[\d.]+$", out, re.MULTILINE)
    assert (made["evaluation"] / "report.html").is_file()
    assert not list(tmp_path.glob("*.checkpoints")), "they are of no use any more"
    _, out, _ = cli("show", made["evaluation"])
    lineage = set(re.findall(r"[`|]- (\w+) \w{12}  \w+, [\d.]+ s", out))
    assert lineage == set(made) - {"evaluation"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--set", "min_user_evnts=3"], 2, "ingest.min_user_evnts: unknown field, did you mean min_user_events?"),
        (["--set", "min_user_events=few"], 2, "ingest.min_user_events: .*few"),
        (["--set", "min_user_events"], 2, "write it as field.subfield=value"),
        (["--preset", "tinny"], 2, "did you mean tiny"),
        (["--config", "nowhere.yaml"], 2, "nowhere.yaml: No such file"),
        (["--device", "cuda:99"], 2, "--device cuda:99: .*use auto or cpu"),
        (["--device", "abacus"], 2, "--device abacus: no such device"),
    ],
)
def test_a_wrong_option_is_one_message_and_no_work(
    words: list[str], code: int, message: str, cli: Cli, tmp_path: Path
) -> None:
    found, out, err = cli("ingest", "--source", tmp_path, "--dataset", tmp_path / "dataset", *words)
    assert (found, out) == (code, "")
    assert re.match(f"error: {message}", err) or re.search(message, err.splitlines()[0])
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_taken_output_is_refused_before_the_work(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    before = (dataset / "manifest.json").read_bytes()
    code, _, err = cli("ingest", "--source", tmp_path / "raw", "--dataset", dataset)
    assert (code, err) == (4, f"error: {dataset}: exists and is not empty; remove it or name another folder\n")
    assert (dataset / "manifest.json").read_bytes() == before


def test_an_artifact_of_another_kind_is_refused(cli: Cli, dataset: Path, tmp_path: Path) -> None:
    code, _, err = cli("quantize", "--embeddings", dataset, "--codes", tmp_path / "codes")
    assert code == 4
    assert "is of kind `dataset` (made by ingest), `embeddings` is needed here" in err


SLOW = """
import time
import modalrec.stages.ingest as stage
from modalrec.artifacts import write_artifact
from modalrec.cli import main

def slow(source, dataset, *, config, run):
    with write_artifact(dataset, "dataset", stage="ingest", config=config, seed=0, inputs={}) as work:
        (work.folder / "items.parquet").write_bytes(b"half")
        print("at work", flush=True)
        time.sleep(60)

stage.ingest = slow
main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_stage_leaves_nothing(number: int, code: int, tmp_path: Path) -> None:
    words = [sys.executable, "-c", SLOW, "ingest", "--source", ".", "--dataset", str(tmp_path / "dataset")]
    # Whatever runs the tests may ignore interrupts, as a shell's background jobs do; a terminal does not.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard)
    assert child.stdout is not None
    assert child.stdout.readline() == "at work\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_places_may_be_in_a_store(cli: Cli, store_env: EmbeddedStore, prefix: str, tmp_path: Path) -> None:
    store = store_env.store()
    store.put_folder(write_atomic(tmp_path / "raw"), f"{prefix}/raw")
    edges = ["--source", f"{prefix}/raw", "--dataset", f"{prefix}/dataset"]
    code, out, err = cli("ingest", *edges, "--preset", "tiny")
    assert code == 0, err
    assert "interactions=" in out
    names = store.names(f"{prefix}/dataset")
    assert "manifest.json" in names
    assert store.names(f"{prefix}/dataset.checkpoints") == []
    code, out, _ = cli("show", f"{prefix}/dataset")
    assert code == 0
    assert re.search("made by: +ingest", out)
    code, _, err = cli("ingest", *edges)
    assert code == 4
    assert "an artifact is stored there already" in err
    edges = ["--dataset", f"{prefix}/dataset", "--text_embeddings", tmp_path / "text"]
    assert cli("embed_text", *edges, "--preset", "tiny")[0] == 0


def test_checkpoints_given_by_the_user_stay(cli: Cli, tmp_path: Path) -> None:
    source = write_atomic(tmp_path / "raw")
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    words = ["--source", source, "--dataset", tmp_path / "dataset", "--preset", "tiny", "--checkpoints", checkpoints]
    assert cli("ingest", *words)[0] == 0
    assert checkpoints.is_dir()


def test_a_pickle_needs_a_flag(cli: Cli, tmp_path: Path) -> None:
    rows = [(session, "ab"[step], 43_200 * session + step) for session in range(12) for step in range(2)]
    frame = pd.DataFrame(rows, columns=["SessionId", "ItemId", "Time"])
    (tmp_path / "raw").mkdir()
    frame.to_pickle(tmp_path / "raw" / "clicks.pickle")
    words = ["ingest", "--source", tmp_path / "raw", "--dataset", tmp_path / "dataset"]
    code, _, err = cli(*words)
    assert code == 2
    assert "is a pickle, which can hold code; it is read only with --allow-pickle" in err
    code, out, err = cli(*words, "--allow-pickle")
    assert code == 0, err
    assert "interactions=22" in out
    code, _, err = cli(*words[:-1], tmp_path / "other", "--allow-pickle", "--set", "source.name=tables")
    assert code == 2
    assert "--allow-pickle: the source is tables here, and only sessions reads pickles; leave it out" in err
