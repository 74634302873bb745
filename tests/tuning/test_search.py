"""Searches with real processes: results, failures, ends, interruptions."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.trial import TrialState

from modalrec.errors import ArtifactError, ConfigError, TrainingError, UpstreamError
from modalrec.pids import start_time
from modalrec.run import Run
from modalrec.tuning.build import list_field, number_field
from modalrec.tuning.experiment import load_experiment, read_experiment
from modalrec.tuning.results import best_of, rows, write_results
from modalrec.tuning.search import Search, open_study
from tests.tuning.small import BOWL, changed, container, document, experiment, training

QUIET = Run("tune", quiet=True)


def search(folder: Path, code: str = BOWL, parallel: int = 1, trials: int | None = None, **settings: Any) -> list[Any]:
    given = experiment(code, **settings)
    return rows(Search(given, folder, trials=trials, parallel=parallel).run(QUIET))


def test_trials_are_processes_and_their_best_is_found(tmp_path: Path) -> None:
    found = search(tmp_path, parallel=2)
    assert [row["state"] for row in found] == ["succeeded"] * 6
    for row in found:
        x, n, word = (row["parameters"][name] for name in ("x", "n", "word"))
        expected = 1 - (float(x) - 0.3) ** 2 - (int(n) - 3) ** 2 / 100 + (word == "b") / 100
        assert row["value"] == pytest.approx(expected, abs=1e-6)
    assert best_of(found, maximise=True)["value"] == max(row["value"] for row in found)  # type: ignore[index]
    assert (tmp_path / "trials" / "0000" / "log.txt").read_text().startswith("score=")


def test_a_finished_search_goes_on_where_more_trials_are_asked_for(tmp_path: Path) -> None:
    at_once = search(tmp_path / "one", trials=5)
    first = search(tmp_path / "two", trials=3)
    both = search(tmp_path / "two", trials=5)
    assert both[:3] == first
    assert [row["parameters"] for row in both] == [row["parameters"] for row in at_once]


def test_another_experiment_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    search(tmp_path, trials=1)
    with pytest.raises(ArtifactError, match="another experiment, other settings or another seed"):
        search(tmp_path, code=BOWL + "; print(1)", trials=2)


def test_failed_trials_count_and_are_shown_and_too_many_end_the_search(tmp_path: Path) -> None:
    code = "print('error: x is bad; give another', file=sys.stderr); sys.exit(3)"
    given = experiment(code, fields=[list_field("x", [1, 2])])
    with pytest.raises(TrainingError, match=r"(?s)5 trials have failed.*x is bad; give another.*log.txt"):
        Search(given, tmp_path).run(QUIET)
    with pytest.raises(TrainingError, match="5 trials have failed"):
        Search(given, tmp_path).run(QUIET)  # it does not try on


def test_what_killed_a_trial_is_told(tmp_path: Path) -> None:
    (found,) = search(tmp_path, "print('score=1', flush=True); os.kill(os.getpid(), 9)", trials=1)
    assert (found["state"], found["value"]) == ("failed", None)
    assert found["error"] == "killed by SIGKILL (out of memory?)"


def test_a_trial_without_its_metric_has_failed(tmp_path: Path) -> None:
    code = "print('score=nan' if n % 2 else 'score=0.5')"
    found = search(tmp_path, code, algorithm="random")
    for row in found:
        odd = int(row["parameters"]["n"]) % 2
        assert row["state"] == ("failed" if odd else "succeeded")
        assert row["error"] == ("it printed no score" if odd else None)
    assert {row["state"] for row in found} == {"failed", "succeeded"}


def test_the_goal_ends_a_search(tmp_path: Path) -> None:
    given = read_experiment(changed(document("print('score=0.5')"), "spec", "objective", "goal", to=0.5), "small.yaml")
    assert len(rows(Search(given, tmp_path).run(QUIET))) == 1


def test_the_goal_counts_before_the_failures(tmp_path: Path) -> None:
    """As in Katib, which looks at the goal first."""
    code = "print('score=0.5') if x == 1 else sys.exit(1)"
    made = document(code, fields=[list_field("x", [1, 2])], algorithm="grid", trials=2, parallel=2)
    made = changed(changed(made, "spec", "objective", "goal", to=0.5), "spec", "maxFailedTrialCount", to=1)
    given = read_experiment(changed(made, "spec", "algorithm", to={"algorithmName": "grid"}), "small.yaml")
    study = open_study(Search(given, tmp_path))
    for x, state in (("1", TrialState.COMPLETE), ("2", TrialState.FAIL)):
        parts = {"params": {"x": x}, "distributions": {"x": given.parameters[0].distribution()}}
        study.add_trial(optuna.create_trial(state=state, value=0.5 if x == "1" else None, **parts))
    assert len(rows(Search(given, tmp_path).run(QUIET))) == 2


def test_a_grid_ends_when_it_is_done(tmp_path: Path) -> None:
    fields = [list_field("x", [1, 2, 3])]
    given = changed(
        document("print(f'score={x}')", fields=fields, algorithm="grid", trials=3), "spec", "maxTrialCount", to=None
    )
    found = rows(Search(read_experiment(given, "small.yaml"), tmp_path).run(QUIET))
    assert sorted(row["value"] for row in found) == [1, 2, 3]


def test_a_least_value_can_be_searched(tmp_path: Path) -> None:
    found = search(tmp_path, "print(f'score={x}'); print(f'score={x + 1}')", maximise=False)
    assert all(row["value"] == float(row["parameters"]["x"]) for row in found), "min of what was printed"


@pytest.mark.parametrize("form", ["TEXT", "JSON"])
def test_metrics_may_come_from_a_file(tmp_path: Path, form: str) -> None:
    line = {"TEXT": "f'score={x}'", "JSON": '\'{"score": "%s"}\' % x'}[form]
    given = document(f"print({line}, file=open('/var/log/katib/metrics.log', 'w')); print('score=7')")
    place = {"path": "/var/log/katib/metrics.log", "kind": "File", "format": form}
    given["spec"]["metricsCollectorSpec"] = {"collector": {"kind": "File"}, "source": {"fileSystemPath": place}}
    found = rows(Search(read_experiment(given, "small.yaml"), tmp_path, trials=2).run(QUIET))
    assert [row["value"] for row in found] == [float(row["parameters"]["x"]) for row in found]


EPOCHS = """
done = os.environ['DONE']
for epoch in range(8):
    print(f'score={x + epoch / 100}', flush=True)
    if x == 0 and epoch == 3 and os.path.exists(done):
        time.sleep(60)  # until it is ended
if x == 1:
    open(done, 'w').close()
"""


def test_medianstop_ends_what_is_worse_than_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONE", str(tmp_path / "done"))
    given = document(EPOCHS, fields=[list_field("x", [0, 1])], algorithm="random")
    settings = [{"name": "min_trials_required", "value": "1"}, {"name": "start_step", "value": "2"}]
    given["spec"]["earlyStopping"] = {"algorithmName": "medianstop", "algorithmSettings": settings}
    # What ends early must be below the mean of the first values of both kinds, once both have succeeded.
    found = rows(Search(read_experiment(given, "small.yaml"), tmp_path / "out").run(QUIET))
    good = [row for row in found if row["parameters"]["x"] == "1"]
    after = [row for row in found[found.index(good[0]) + 1 :] if row["parameters"]["x"] == "0"]
    assert [row["state"] for row in good] == ["succeeded"] * len(good)
    assert after, "the seed draws some"
    assert {row["state"] for row in after} == {"ended early"}
    assert all(2 <= len(row["epochs"]) <= 4 for row in after)
    assert best_of(found, maximise=True)["value"] == pytest.approx(1.07)  # type: ignore[index]


def test_a_hyperband_gives_every_trial_the_whole_resource(tmp_path: Path) -> None:
    code = "for epoch in range(epochs):\n    print(f'score={x + epoch / 100}', flush=True)"
    fields = [number_field("x", "double", 0, 1, 0.1), number_field("epochs", "int", 1, 9)]
    settings = {"r_l": "9", "eta": "3", "resource_name": "epochs"}
    given = experiment(code, fields=fields, algorithm="hyperband", algorithm_settings=settings, trials=9, parallel=9)
    found = rows(Search(given, tmp_path, trials=3).run(QUIET))
    assert {row["parameters"]["epochs"] for row in found} == {"9"}
    assert {row["state"] for row in found} <= {"succeeded", "ended early"}


def test_a_program_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    given = document()
    container(given)["command"] = ["no-such-program"]
    with pytest.raises(UpstreamError, match="no-such-program: cannot be started"):
        Search(read_experiment(given, "small.yaml"), tmp_path).run(QUIET)


SLOW = """
open(os.environ['STARTED'] + f'/{os.getpid()}', 'w').close()
time.sleep(60 if os.environ.get('SLOW') else 0)
print('score=1')
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_search_leaves_no_process_and_goes_on_with_the_same_parameters(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is killed cannot end its trials; they would hold their checkpoints, and the second beginning would fail."""
    started, out, file = tmp_path / "started", tmp_path / "out", tmp_path / "small.yaml"
    started.mkdir()
    file.write_text(yaml.safe_dump(document(SLOW)))
    monkeypatch.setenv("STARTED", str(started))
    command = [sys.executable, "-m", "modalrec", "tune", str(file), "--out", str(out), "--trials=2", "--parallel=2"]
    with subprocess.Popen(command, env={**os.environ, "SLOW": "1"}, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while len(list(started.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        trials = [int(path.name) for path in started.iterdir()]
        process.send_signal(number)
        process.wait(60)
    assert len(trials) == 2
    assert sum(start_time(each) is not None for each in trials) == (2 if number == signal.SIGKILL else 0)
    found = rows(Search(load_experiment(file), out, trials=2, parallel=2).run(Run("tune")))
    assert not any(start_time(each) for each in trials)
    assert "trial 0 was interrupted and begins again" in capsys.readouterr().err
    assert [row["state"] for row in found] == ["succeeded"] * 2, "interrupted trials are not among them"
    assert len({json.dumps(row["parameters"]) for row in found}) == 2


@pytest.mark.parametrize("moment", ["asked", "chosen again", "given up"])
def test_no_point_of_a_grid_is_lost_or_taken_twice_whenever_it_is_killed(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [list_field("x", [1, 2, 3, 4])]
    given = experiment("print(f'score={x}')", fields=fields, algorithm="grid", trials=4)
    search = Search(given, tmp_path)
    rows(Search(given, tmp_path, trials=1).run(QUIET))

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    storage = "optuna.storages._cached_storage._CachedStorage"
    again = {"chosen again": [f"{storage}.set_trial_user_attr"], "given up": [f"{storage}.set_trial_state_values"]}
    for method in ("optuna.trial.Trial._suggest", *again.get(moment, [])):  # first: it has no parameter yet
        with monkeypatch.context() as patch:
            patch.setattr(method, killed)
            with pytest.raises(KeyboardInterrupt):
                search.run(QUIET)
    found = rows(search.run(QUIET))
    assert sorted(row["value"] for row in found) == [1, 2, 3, 4]


def test_trials_with_the_same_parameters_have_checkpoints_of_their_own(tmp_path: Path) -> None:
    search = Search(experiment(), tmp_path)
    first = search.checkpoints({"x": "1"})
    second = search.checkpoints({"x": "1"}, [first])
    assert first == search.checkpoints({"x": "1"}, [second]), "the second beginning finds those of the first"
    assert len({first, second, search.checkpoints({"x": "1"}, [first, second]), search.checkpoints({"x": "2"})}) == 4


def test_a_study_that_is_damaged_is_refused(tmp_path: Path) -> None:
    search(tmp_path, trials=1)
    (tmp_path / "study.db").write_bytes(b"x" * 5_000)
    with pytest.raises(ArtifactError, match=r"study.db: not a study that can be read .*give another --out"):
        search(tmp_path, trials=2)


def test_two_searches_in_one_folder_are_refused(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UpstreamError, match="another search is at work here"):
            search(tmp_path, trials=1)


def test_trials_without_their_data_are_refused_before_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    given = read_experiment(training(), "training.yaml")
    with pytest.raises(ConfigError, match="--dataset: the trials read it from a store"):
        Search(given, tmp_path).check()
    Search(given, tmp_path, {"dataset": "here"}).check()
    with pytest.raises(ConfigError, match=r"recommender\.layrs: unknown field, did you mean layers"):
        Search(given, tmp_path, {"dataset": "here"}, ["recommender.layrs=[8]"]).check()


def test_the_best_settings_are_a_file_for_the_stage(tmp_path: Path) -> None:
    given = read_experiment(training(), "training.yaml")
    row = {"trial": 3, "value": 0.5, "parameters": {"recommender.layers": "32", "training.learning_rate": "0.1"}}
    write_results(tmp_path, given, [{**row, "value": 0.4, "trial": 1}, row], ["training.epochs=1"])
    text = (tmp_path / "best.yaml").read_text()
    assert text.startswith("# The best of 2 trials of training: trial 3, valid_mrr_20 0.5.\n")
    settings = yaml.safe_load(text)
    assert settings["recommender"]["layers"] == [32]
    assert settings["training"] == {"epochs": 1, "batch_size": 8, "learning_rate": 0.1, "patience": 2}
    assert settings["split"] == "sessions", "with the preset's"
