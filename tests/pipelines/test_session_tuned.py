"""The recipe `session_tuned`: what it compiles to, how `session` comes to it, and a run on small sessions."""

import json
from pathlib import Path

from pipelines import session, session_tuned
from pipelines.runner import recipes
from pipelines.runner.compile import COMPILED
from pipelines.runner.local import LocalRun
from pipelines.runner.validate import read_documents, validate
from tests.pipelines.test_session import SMALL, arguments, clicks


def test_the_compiled_recipe_is_session_with_a_search_on_a_cpu() -> None:
    documents = read_documents((COMPILED / "session_tuned.yaml").read_text())
    assert validate(documents, "session_tuned.yaml").pipeline_info.name == "session-tuned"
    executors = documents[0]["deploymentSpec"]["executors"]
    plain = read_documents((COMPILED / "session.yaml").read_text())[0]["deploymentSpec"]["executors"]
    assert executors.keys() - plain.keys() == {"exec-tune", "exec-tune-2"}
    assert "accelerator" not in executors["exec-tune"]["container"]["resources"]


def test_settings_of_a_search_choose_it() -> None:
    assert recipes.searching("session", {"finetune": {}}) == "session"
    assert recipes.searching("session", {"tune": {"trials": 2}}) == "session_tuned"
    assert recipes.searching("session", {"tune.trials": 2}) == "session_tuned"
    assert recipes.searching("semantic_id", {"tune": {"trials": 2}}) == "semantic_id", "which then refuses it"
    assert recipes.load(session.TUNED) is session_tuned


def test_a_run_on_small_sessions_trains_with_what_the_search_found(tmp_path: Path) -> None:
    settings = {**SMALL, "tune": {"trials": 1, "experiment": "gru4rec-cross-entropy-constrained"}}
    given = arguments(clicks(tmp_path / "raw"), settings=settings)
    session_tuned.check(given)
    run = LocalRun("session", session_tuned.pipeline, given, tmp_path / "out")
    run.run()
    (study,) = (run.folder / "searches").glob("*/study.db")
    (log,) = study.parent.glob("trials/*/log.txt")
    assert "valid_mrr_20=" in log.read_text()
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["recall_5"] > 0
    addresses = json.loads((run.folder / "artifacts.json").read_text())
    assert {"metrics", "report"} <= addresses["tune"].keys()
    log_text = (run.folder / "log.txt").read_text()
    assert "[tune] trial 0: valid_mrr_20" in log_text
