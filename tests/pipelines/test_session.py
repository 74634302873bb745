"""The recipe `session`: what it compiles to, what it refuses, and a run on small sessions."""

import json
from pathlib import Path

import numpy as np
import pytest

from modalrec.errors import ConfigError
from modalrec.stages.recommend import Server
from pipelines import session
from pipelines.runner.compile import COMPILED
from pipelines.runner.local import LocalRun
from pipelines.runner.validate import read_documents, validate

SMALL = {
    "finetune.recommender": {"layers": [16], "n_sample": 16},
    "finetune.training": {"epochs": 2, "batch_size": 8, "patience": 0},
    "evaluate": {"bootstrap_samples": 100, "gallery_users": 2},
}


def clicks(folder: Path) -> Path:
    """Nine days of sessions in which item i is followed by i + 1."""
    rng = np.random.default_rng(0)
    lines = ["SessionId\tItemId\tTime"]
    for number in range(270):
        first = rng.integers(20)
        start = 1_400_000_000 + number * 9 * 86_400 // 270
        steps = range(rng.integers(2, 6))
        lines += [f"{number}\t{(first + step) % 20}\t{start + 60 * step}" for step in steps]
    folder.mkdir()
    (folder / "clicks.txt").write_text("\n".join(lines) + "\n")
    return folder


def arguments(source: Path, **others: object) -> dict[str, object]:
    return {"source": str(source), "preset": "session", "settings": SMALL, "seed": 0, **others}


def test_the_compiled_recipe_has_one_chain_and_a_branch_with_content() -> None:
    documents = read_documents((COMPILED / "session.yaml").read_text())
    assert validate(documents, "session.yaml").pipeline_info.name == "session"
    executors = documents[0]["deploymentSpec"]["executors"]
    assert {label.removesuffix("-2") for label in executors} == {
        f"exec-{name}"
        for name in (
            "summarize",
            *("configure", "ingest", "embed-text", "embed-image", "join", "fuse"),
            *("finetune", "evaluate"),
        )
    }
    on_gpu = {label for label, spec in executors.items() if "accelerator" in spec["container"]["resources"]}
    assert on_gpu == {"exec-finetune", "exec-finetune-2", "exec-embed-text", "exec-embed-image"}


@pytest.mark.parametrize(("content", "given"), [("sum", False), ("none", True)])
def test_content_must_be_made_where_it_is_wanted(tmp_path: Path, content: str, given: bool) -> None:
    settings = {**SMALL, "finetune.recommender": {"content": content}}
    with pytest.raises(ConfigError, match="content: the run says"):
        session.check(arguments(tmp_path, settings=settings, content=given))


def test_a_setting_of_a_stage_that_the_recipe_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quantize: not a stage of this recipe"):
        session.check(arguments(tmp_path, settings={"quantize.levels": 2}))


def test_a_run_on_small_sessions(tmp_path: Path) -> None:
    given = arguments(clicks(tmp_path / "raw"))
    session.check(given)
    LocalRun("session", session.pipeline, given, tmp_path / "out").run()
    metrics = json.loads((tmp_path / "out" / "session" / "metrics.json").read_text())
    assert metrics["recall_5"] > metrics["popularity_recall_5"]
    assert metrics["primary_metric"] == metrics["mrr_20"]
    assert metrics["predictions"] > metrics["users"] > 20
    assert (tmp_path / "out" / "session" / "report.html").stat().st_size > 10_000
    server = Server(tmp_path / "out" / "session" / "model")
    assert len(server.recommend([["3"]], 3)[0]) == 3, "what was judged is there, without the store"
