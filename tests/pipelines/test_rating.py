"""The recipe `rating`: what it compiles to, what its control is, and what it refuses."""

from pathlib import Path

import pytest

from modalrec.errors import ConfigError
from modalrec.stages.configure import configure
from pipelines import rating
from pipelines.runner.compile import COMPILED
from pipelines.runner.validate import read_documents, validate


def test_the_compiled_recipe_trains_the_model_twice_where_controls_are_wanted() -> None:
    documents = read_documents((COMPILED / "rating.yaml").read_text())
    assert validate(documents, "rating.yaml").pipeline_info.name == "rating"
    executors = documents[0]["deploymentSpec"]["executors"]
    assert sum(label.startswith("exec-finetune") for label in executors) == 2
    assert {"exec-embed-text", "exec-embed-image"} <= executors.keys()
    assert "exec-quantize" not in executors


@pytest.mark.parametrize(("preset", "encoders"), [
    ("rating", ("minilm", "efficientnet")),
    ("rating+rating_bert", ("huggingface", "timm")),
    ("rating+rating_clip", ("huggingface", "huggingface")),
])  # fmt: skip
def test_presets_choose_the_encoders_and_the_control_goes_without_them(preset: str, encoders: tuple[str, str]) -> None:
    configs = configure(preset, {}, True, rating.STAGES)
    assert tuple(configs[f"embed_{kind}"]["encoder"]["name"] for kind in ("text", "image")) == encoders
    finetune, control = configs["finetune"], configs["finetune_without_content"]
    assert finetune["monitor"] == "neg_rmse"
    assert finetune["rows"]["moments"]
    assert control["recommender"]["without"] == ["content"]
    assert {**control, "recommender": {**control["recommender"], "without": []}} == finetune


@pytest.mark.parametrize("name", ["sasrec", "din"])
def test_a_model_that_does_not_look_at_texts_and_pictures_is_refused(name: str, tmp_path: Path) -> None:
    settings = {"finetune": {"recommender": {"name": name}}}
    given = {"source": str(tmp_path), "preset": "ctr", "settings": settings, "seed": 0, "controls": True}
    with pytest.raises(ConfigError, match=f"{name}: is no model of this recipe; take dlrm"):
        rating.check(given)
