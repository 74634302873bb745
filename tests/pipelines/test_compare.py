"""The recipe `compare`: what it compiles to, what it refuses, and a run of two recommenders on a few films."""

import json
import re
from pathlib import Path

import pytest

from modalrec.errors import ConfigError
from pipelines import compare
from pipelines.runner.compile import COMPILED
from pipelines.runner.local import LocalRun
from pipelines.runner.validate import read_documents, validate
from tests.raw import histories, write_atomic

HASHING = {"name": "hashing", "dimension": 8}
SMALL = {
    "ingest": {"min_user_events": 3, "min_item_events": 1, "images": {"missing": "draw"}},
    "embed_text": {"encoder": HASHING},
    "embed_image": {"encoder": HASHING},
    "quantize": {"quantizer": {"name": "rq_kmeans", "levels": 2, "codebook_size": 3}},
    "finetune": {"recommender": {"name": "sasrec", "width": 8}, "training": {"epochs": 1, "batch_size": 8}},
    "evaluate": {"bootstrap_samples": 100, "gallery_users": 2, "ties": "report"},
    "compare": {
        "bootstrap_samples": 100,
        "recommenders": {
            "texts": {"fuse": {"modalities": ["text"]}, "finetune": {"recommender": {"content": "sum"}}},
            "clicks": {},
        },
    },
}


def arguments(source: Path, settings: dict[str, object]) -> dict[str, object]:
    return {"source": str(source), "preset": "tiny", "settings": settings, "seed": 0}


def test_the_compiled_recipe_trains_each_in_a_round_of_one_loop() -> None:
    documents = read_documents((COMPILED / "compare.yaml").read_text())
    assert validate(documents, "compare.yaml").pipeline_info.name == "compare"
    loops = {
        name: set(component["dag"]["tasks"])
        for name, component in documents[0]["components"].items()
        if name.startswith("comp-for-loop")
    }
    assert {"fuse", "quantize", "finetune", "evaluate"} in loops.values()
    on_gpu = {
        label
        for label, spec in documents[0]["deploymentSpec"]["executors"].items()
        if "accelerator" in spec["container"]["resources"]
    }
    assert {"exec-quantize", "exec-finetune"} <= on_gpu
    assert "exec-compare" not in on_gpu


@pytest.mark.parametrize("preset", ["compare", "modalities"])
def test_presets_resolve(preset: str, tmp_path: Path) -> None:
    compare.check({**arguments(tmp_path, {}), "preset": preset})


def test_what_would_fail_hours_later_is_refused_at_once(tmp_path: Path) -> None:
    wrong = {**SMALL, "compare": {"recommenders": {"mine": {"finetune": {"recommender": {"widht": 9}}}}}}
    with pytest.raises(ConfigError, match=r"compare\.recommenders\.mine\.finetune\.recommender\.widht: unknown field"):
        compare.check(arguments(tmp_path, wrong))


def test_a_run_of_two_recommenders(tmp_path: Path) -> None:
    given = arguments(write_atomic(tmp_path / "raw", histories(12, 8), 8), SMALL)
    compare.check(given)
    LocalRun("compare", compare.pipeline, given, tmp_path / "out").run()
    folder = tmp_path / "out" / "compare"
    metrics = json.loads((folder / "metrics.json").read_text())
    names = {
        f"{row}_{metric}_10" for row in ("clicks", "texts", "popularity", "item_knn") for metric in ("recall", "ndcg")
    }
    assert names <= metrics.keys()
    html = (folder / "report.html").read_text()
    assert "2 recommenders compared" in html
    assert re.search(r"texts<small>knows text</small>", html), "names and evaluations are in the same order"
    assert re.search(r"clicks<small>clicks alone</small>", html)
    assert (
        len([line for line in (folder / "log.txt").read_text().splitlines() if "evaluate" in line and "done" in line])
        == 2
    )
