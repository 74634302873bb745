"""The recipe `mp4sr`: what it compiles to, what it refuses, and a run on a few films with drawn posters."""

import json
from pathlib import Path

import pytest

from modalrec.config import load_preset, resolve
from modalrec.errors import ConfigError
from modalrec.stages.evaluate import Config as Evaluate
from modalrec.stages.finetune import Config as Train
from modalrec.stages.ingest import Config as Ingest
from pipelines import mp4sr
from pipelines.runner.compile import COMPILED
from pipelines.runner.local import LocalRun
from pipelines.runner.validate import read_documents, validate
from tests.raw import histories, write_atomic

HASHING = {"name": "hashing", "dimension": 8}
MODEL = {"width": 8, "history": 8, "experts": 2}
TRAINING = {"epochs": 1, "batch_size": 8}
SMALL = {
    "ingest": {"min_user_events": 3, "min_item_events": 1, "images": {"missing": "draw"}},
    "embed_text": {"encoder": HASHING, "max_sentences": 3},
    "embed_image": {"encoder": HASHING, "keywords": {"num_image_tokens": 2, "vocabulary": ["war", "film", "drama"]}},
    "embed_image.keywords.encoder": HASHING,
    "pretrain": {"recommender": MODEL, "training": TRAINING},
    "finetune": {"recommender": MODEL, "training": TRAINING},
    "evaluate": {"bootstrap_samples": 100, "gallery_users": 2, "ties": "report"},
}


def arguments(source: Path, **others: object) -> dict[str, object]:
    return {"source": str(source), "preset": "mp4sr", "settings": SMALL, "seed": 0, "controls": True, **others}


def test_the_compiled_recipe_has_the_chain_and_one_control() -> None:
    documents = read_documents((COMPILED / "mp4sr.yaml").read_text())
    assert validate(documents, "mp4sr.yaml").pipeline_info.name == "mp4sr"
    executors = documents[0]["deploymentSpec"]["executors"]
    chain = ["configure", "ingest", "embed-text", "embed-image", "pretrain", "finetune", "finetune-2"]
    others = ("summarize", "join", "join-2", "evaluate", "evaluate-2")
    assert set(executors) == {f"exec-{name}" for name in (*chain, *others)}
    on_gpu = {label for label, spec in executors.items() if "accelerator" in spec["container"]["resources"]}
    assert on_gpu == {f"exec-{name}" for name in chain[2:]}


@pytest.mark.parametrize(
    "preset",
    ["mp4sr", "mp4sr_published", "pantry+mp4sr", *(f"{name}+mp4sr_published" for name in ("pantry", "arts", "office"))],
)
def test_presets_resolve(preset: str, tmp_path: Path) -> None:
    mp4sr.check(arguments(tmp_path, preset=preset, settings={}))


def test_the_published_settings_are_those_of_the_authors_files() -> None:
    """Their properties/ and README, and RecBole's ranking of sequential models, which leaves nothing out."""
    stages = load_preset("mp4sr_published")
    configs = {name: resolve(Train, stages[name]) for name in ("pretrain", "finetune")}
    for name, config in configs.items():
        model, training = config.recommender, config.training
        assert (model.width, model.layers, model.heads, model.feed_forward, model.dropout) == (64, 2, 2, 4, 0.2), name
        assert (model.history, model.norm, model.experts, model.adaptor_dropout) == (50, "post", 8, 0.2)
        assert (model.temperature, model.nip_weight, model.cmcl_weight, model.proj) == (0.07, 1.0, 0.01, False)
        assert (model.mix_up, model.drop_items, model.published, model.whiten) == (0.5, 0.2, True, False)
        assert (training.epochs, training.batch_size, training.patience, training.clip_norm) == (300, 1024, 20, 5.0)
        assert (config.split, config.monitor, config.mask_seen) == ("leave_one_out", "recall_20", False)
    rates = [(configs[name].training.learning_rate, configs[name].training.weight_decay) for name in configs]
    assert rates == [(1e-3, 0.0), (1e-4, 1e-3)]
    judged = resolve(Evaluate, stages["evaluate"])
    assert (judged.cutoffs, judged.mask_seen, judged.split) == ((5, 10, 20, 50), False, "leave_one_out")
    assert stages["embed_image"]["keywords"]["num_image_tokens"] == 15
    assert stages["embed_text"]["max_sentences"] == 10
    for name in ("pantry", "arts", "office"):
        ingest = resolve(Ingest, load_preset(name)["ingest"])
        assert (ingest.min_user_events, ingest.min_item_events, ingest.deduplicate) == (5, 1, "last")


@pytest.mark.parametrize(
    ("preset", "settings", "message"),
    [
        ("pantry", {}, "encoder_decoder needs codes, which this recipe does not make; take mp4sr"),
        ("mp4sr", {"quantize.levels": 2}, "quantize: not a stage of this recipe"),
        ("mp4sr", {"pretrain.recommender.width": 32}, "finetune.recommender.width: finetune starts from pretrain"),
        ("mp4sr_published", {"embed_text.encoder": HASHING}, "keywords.encoder: differs from embed_text.encoder"),
    ],
)
def test_what_would_fail_hours_later_is_refused_at_once(
    preset: str, settings: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        mp4sr.check(arguments(tmp_path, preset=preset, settings=settings))


def test_a_run_on_a_few_films(tmp_path: Path) -> None:
    given = arguments(write_atomic(tmp_path / "raw", histories(12, 8), 8))
    mp4sr.check(given)
    LocalRun("mp4sr", mp4sr.pipeline, given, tmp_path / "out").run()
    metrics = json.loads((tmp_path / "out" / "mp4sr" / "metrics.json").read_text())
    rows = ("", "pretrained_", "scratch_", "popularity_", "item_knn_", "content_nn_", "item_knn_content_")
    names = {f"{row}{metric}_{k}" for row in rows for metric in ("recall", "ndcg", "mrr") for k in (5, 10, 20, 50)}
    assert names <= metrics.keys()
    assert (tmp_path / "out" / "mp4sr" / "report.html").stat().st_size > 10_000
