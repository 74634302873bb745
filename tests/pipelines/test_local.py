"""Local runs: artifacts through the real store, results of earlier runs, failures, interruptions."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kfp.local import task_dispatcher

from modalrec.errors import DataError, UpstreamError
from pipelines.runner.local import StageFailed
from pipelines.runner.seam import replaced
from tests.pipelines.conftest import Toy

ROOT = Path(__file__).parents[2]


def test_a_run_goes_through_the_store_and_a_second_one_finds_everything_there(served: Toy) -> None:
    shown = served.run()
    assert served.steps == ["make", "double", "judge"]
    heads = [re.sub(r"\s+", " ", line) for line in shown if re.match(r"\[\d/3\]", line)]
    assert [re.sub(r"[\d.]+ s$", "x s", line) for line in heads] == [
        "[1/3] make next: double",
        "[1/3] make done in x s",
        "[2/3] double next: judge_2",
        "[2/3] double done in x s",
        "[3/3] judge_2 the last one",
        "[3/3] judge_2 done in x s",
    ]
    assert any("[double] copying" in line for line in shown)
    assert not any("chatter" in line or "INFO" in line or "arn" in line for line in shown)
    assert "popularity          0.5000" in shown

    results = served.folder / "out" / "toy"
    assert "chatter that belongs in the log" in (results / "log.txt").read_text()
    assert json.loads((results / "metrics.json").read_text())["recall_10"] == 30
    assert (results / "report.html").read_text() == "<p>a.txta.txt deep/b.txtdeep/b.txt</p>"
    # The reader got the right class and a copy, and no copy stays.
    _, _, kind, path = served.journal[1].split()
    assert kind == "ModalrecDataset"
    assert not Path(path).exists()
    assert {each.name for each in results.iterdir()} == {
        "artifacts.json",
        "log.txt",
        "metrics.json",
        "prediction.csv",
        "report.html",
        "run.lock",
    }
    addresses = json.loads((results / "artifacts.json").read_text())
    assert served.server is not None
    store = served.server.store()
    assert store.names(addresses["double"]["codes"]) == ["a.txt", "deep/b.txt"]

    again = served.run()
    assert served.steps == ["make", "double", "judge"]
    assert sum(line.endswith("cached") for line in again) == 3
    assert json.loads((results / "artifacts.json").read_text()) == addresses

    store.delete(f"{addresses['double']['codes']}/a.txt")
    served.run()  # what the store has lost is made again
    assert served.steps[3:] == ["double"]

    served.run(settings={"x": {"y": None, "z": 3}})  # another parameter, the same content
    assert "'y': 'null'" in served.journal[4]  # kfp.local cannot pass None; `configure` turns it back
    assert served.steps[4:] == ["make"]

    served.run(cache=False)
    assert served.steps[5:] == ["make", "double", "judge"]


def test_a_failed_stage_is_told_once_and_leaves_nothing_behind(served: Toy) -> None:
    served.trouble("fail")
    with pytest.raises(StageFailed, match=r"^double: b.txt: row 7 is not a number; mend it\n.*log.txt") as caught:
        served.run()
    assert caught.value.exit_code == 3
    assert served.steps == ["make", "double"]  # no second attempt
    assert task_dispatcher.run_single_task_implementation.__module__ == task_dispatcher.__name__

    served.trouble("crash")
    with pytest.raises(StageFailed, match="ZeroDivisionError: a bug") as caught:
        served.run()
    assert caught.value.exit_code == 1

    served.trouble("")
    shown = served.run()
    assert served.steps == ["make", "double", "double", "double", "judge"]
    assert [line.split()[-1] for line in shown if "make" in line][-1] == "cached"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_stops_everything_and_goes_on_later(toy: Toy, number: signal.Signals) -> None:
    toy.trouble("wait")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipelines.toy", str(toy.folder)],
        cwd=toy.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 60
    while toy.steps != ["make", "double"] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, shown
    assert "interrupted; the same command goes on from here" in shown
    assert "Traceback" not in shown
    stage = int(toy.journal[1].split()[1])
    server = json.loads((toy.folder / "out" / "store" / "server.json").read_text())["pid"]
    deadline = time.monotonic() + 10
    while any(_runs(pid) for pid in (stage, server)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in (stage, server) if _runs(pid)] == []
    assert not list((toy.folder / "out" / "toy").glob("work-*"))

    toy.trouble("")
    toy.run()
    assert toy.steps == ["make", "double", "double", "judge"]


def _runs(pid: int) -> bool:
    """Whether a process is there and not only waiting for the system to collect it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_two_runs_do_not_share_a_folder(toy: Toy) -> None:
    results = toy.folder / "out" / "toy"
    results.mkdir(parents=True)
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True)"
    command = [sys.executable, "-c", f"{holder}; time.sleep(60)", str(results / "run.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UpstreamError, match="another run is at work here"):
            toy.run()
        other.kill()


def test_a_missing_source_is_told_before_anything_starts(toy: Toy) -> None:
    with pytest.raises(DataError, match="no such folder"):
        toy.run(source=str(toy.folder / "nowhere"))
    assert not (toy.folder / "out").exists()


def test_a_moved_seam_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_dispatcher, "run_single_task_implementation", lambda name: None)
    with (
        pytest.raises(UpstreamError, match=r"run_single_task_implementation is not as in 2\.17; install kfp>=2\.17"),
        replaced(lambda original: original, lambda command, env: 0, lambda **container: 0),
    ):
        pass
