"""The recipe `ctr`: what it compiles to, what its controls are, and what it refuses."""

from pathlib import Path

import pytest

from modalrec.errors import ConfigError
from modalrec.stages.configure import configure
from pipelines import ctr
from pipelines.runner.compile import COMPILED
from pipelines.runner.validate import read_documents, validate


def test_the_compiled_recipe_trains_the_model_three_times_where_controls_are_wanted() -> None:
    documents = read_documents((COMPILED / "ctr.yaml").read_text())
    assert validate(documents, "ctr.yaml").pipeline_info.name == "ctr"
    executors = documents[0]["deploymentSpec"]["executors"]
    assert sum(label.startswith("exec-finetune") for label in executors) == 3
    assert "exec-quantize" in executors


@pytest.mark.parametrize("preset", ["ctr", "mmctr"])
def test_the_ablations_are_the_model_without_one_thing_each(preset: str) -> None:
    configs = configure(preset, {"finetune.recommender.without": ["item_tags"]}, True, ctr.STAGES)
    for what in ("popularity", "codes"):
        found = configs[f"finetune_without_{what}"]
        assert found["recommender"]["without"] == sorted([what, "item_tags"])
        same = {**found, "recommender": {**found["recommender"], "without": ["item_tags"]}}
        assert same == configs["finetune"]


def test_a_model_that_learns_from_no_rows_is_refused(tmp_path: Path) -> None:
    settings = {"finetune": {"recommender": {"name": "sasrec"}}}
    given = {"source": str(tmp_path), "preset": "ctr", "settings": settings, "seed": 0, "controls": True}
    with pytest.raises(ConfigError, match="sasrec: learns from no labelled rows; take din"):
        ctr.check(given)


def test_the_published_preset_has_texts_embedded_by_openai_and_without_a_key_by_minilm() -> None:
    configs = configure("mmctr", {}, False, ctr.STAGES)
    texts = configs["embed_text"]
    assert (texts["encoder"]["name"], texts["encoder"]["dimensions"], texts["fallback"]["name"]) == (
        "openai",
        1024,
        "minilm",
    )
    assert configs["embed_image"]["encoder"]["name"] == "open_clip"
    assert {configs[stage]["training"]["schedule"] for stage in ("quantize", "finetune")} == {"plateau"}
