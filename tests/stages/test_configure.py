from typing import Any

import pytest

from modalrec.config import PRESETS, dump, load_preset, resolve
from modalrec.errors import ConfigError
from modalrec.stages import STAGES, load_stage
from modalrec.stages.configure import COMPARE, FURTHER, configure
from pipelines import compare, ctr, rating
from pipelines import session as sessions

CONTROLS = {"scratch", "pretrain_shuffled", "finetune_shuffled", "pretrain_temporal", "finetune_temporal"}
ABLATIONS = {
    "din": {"finetune_without_popularity", "finetune_without_codes"},
    "dlrm": {"finetune_without_content"},
}
OF_ROWS = {"din": ctr.STAGES, "dlrm": rating.STAGES}


def epochs(configs: dict[str, dict[str, Any]]) -> dict[str, int]:
    return {name: config["training"]["epochs"] for name, config in configs.items() if "training" in config}


def refused(settings: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        configure("tiny", settings)
    return str(error.value)


@pytest.mark.parametrize("preset", [path.stem for path in PRESETS.glob("*.yaml")])
def test_every_preset_is_right_and_what_it_resolves_to_is_what_stages_take(preset: str) -> None:
    if load_preset(preset).get("quantize", {}).get("form") == "groups" and "finetune" not in load_preset(preset):
        preset = f"ctr+{preset}"  # codes for models of clicks, of which they name none
    finetune = load_preset(preset).get("finetune", {})
    name = finetune.get("recommender", {}).get("name")
    recipe = OF_ROWS.get(name) or (sessions.STAGES if "session" in finetune.get("split", "") else ())
    recipe = compare.STAGES if COMPARE in load_preset(preset) else recipe
    ablations = ABLATIONS.get(name, set())
    configs = configure(preset, {}, stages=recipe)
    assert set(configs) == ({*recipe, *ablations} or {*STAGES, *CONTROLS})
    for name, config in configs.items():
        control = name == "scratch" or name in ablations
        stage = "finetune" if control else name.partition("_shuffled")[0].partition("_temporal")[0]
        config_class = FURTHER[stage] if stage in FURTHER else load_stage(stage)[1]
        assert dump(resolve(config_class, config)) == config, "every default is written out"


def test_a_recipe_without_pretraining_has_no_controls_and_refuses_settings_of_other_stages() -> None:
    assert set(configure("tiny", {}, stages=["ingest", "finetune", "evaluate"])) == {"ingest", "finetune", "evaluate"}
    with pytest.raises(ConfigError, match=r"pretrain: not a stage of this recipe; the stages are ingest, finetune"):
        configure("tiny", {"pretrain.training.epochs": 2}, stages=["ingest", "finetune", "evaluate"])


def test_settings_may_be_nested_or_dotted() -> None:
    nested = configure("tiny", {"quantize": {"quantizer": {"levels": 4}}, "finetune": {"training": {"epochs": 9}}})
    dotted = configure("tiny", {"quantize.quantizer.levels": 4, "finetune": {"training.epochs": 9}})
    assert nested == dotted
    assert nested["quantize"]["quantizer"]["levels"] == 4
    assert nested["quantize"]["quantizer"]["codebook_size"] == 16, "the preset's"


def test_control_runs_differ_from_the_main_run_in_one_thing_each() -> None:
    configs = configure("tiny", {"pretrain.training.epochs": 3, "finetune.training.epochs": 5})
    differences = {}
    for name in CONTROLS:
        main = configs[name.partition("_")[0].replace("scratch", "finetune")]
        differences[name] = {field for field, value in configs[name].items() if value != main[field]}
    assert differences == {
        "scratch": {"training"},
        "pretrain_shuffled": {"shuffle_histories"},
        "finetune_shuffled": {"shuffle_histories"},
        "pretrain_temporal": {"split", "skip_without_split"},
        "finetune_temporal": {"split", "skip_without_split"},
    }
    assert configs["scratch"]["training"] == {**configs["finetune"]["training"], "epochs": 8}, "an equal budget"
    assert configs["finetune_temporal"]["split"] == "temporal"


def test_controls_that_are_off_train_no_epoch() -> None:
    off = epochs(configure("tiny", {}, controls=False))
    assert {name for name, count in off.items() if not count} == CONTROLS


def test_all_stages_problems_come_at_once() -> None:
    text = refused(
        {
            "quantise": {},
            "zzz": {},
            "quantize.quantizer.codebok_size": 8,
            "finetune": {"training": {"epochs": -1}},
            "fuse": 7,
        }
    )
    for problem in (
        "quantise: unknown stage, did you mean quantize?",
        "zzz: unknown stage; the stages are ingest, ",
        "quantize.quantizer.codebok_size: unknown field, did you mean codebook_size?",
        "finetune.training.epochs: Input should be greater than or equal to 0 (given -1)",
        "fuse: expected a mapping of settings (given 7)",
        "`modalrec config STAGE` shows what a stage takes",
    ):
        assert problem in text
    assert len(text.splitlines()) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pretrain.recommender.width": 32}, "finetune.recommender.width: .*32 in pretrain, 16 in finetune; set both"),
        ({"evaluate.cutoffs": [100]}, "evaluate: .*list_length=20 is below the cut-off 100"),
        ({"evaluate.list_length": 30}, "finetune.recommender.beam_size: below the 30 items of the lists"),
        ({"finetune.recommender.heads": 3}, "finetune.recommender.*heads=3 does not divide width=16"),
        ({"evaluate.split": "temporal"}, "evaluate.split: 'temporal', but finetune.split is 'leave_one_out'; set both"),
        ({"ingest.splits": ["temporal"]}, "pretrain.split: 'leave_one_out' is not among ingest.splits"),
    ],
)
def test_stages_that_contradict_each_other_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure("tiny", settings)


def test_a_setting_of_nothing_changes_nothing() -> None:
    assert configure("tiny", {"fuse": None, "quantize": {}}) == configure("tiny", {})


def test_a_trained_fuser_learns_from_the_split_that_is_trained_on() -> None:
    assert configure("tiny", {"fuse.fuser.name": "concat", "fuse.split": "temporal"})
    assert "fuse.split: 'temporal', but finetune.split is" in refused(
        {"fuse.fuser.name": "clip_align", "fuse.split": "temporal"}
    )


def test_a_recipe_embeds_all_parts() -> None:
    assert "embed_text.part: a recipe embeds all parts" in refused({"embed_text": {"part": 1, "parts": 2}})


def test_towers_need_both_modalities() -> None:
    assert "quantize.towers: 'separate' needs both" in refused(
        {"quantize.towers": "separate", "embed_image.skip": True}
    )


def test_code_groups_are_for_models_of_clicks() -> None:
    assert "quantize.form: 'groups' are features of items" in refused({"quantize.form": "groups"})
    assert configure("ctr", {}, stages=["ingest", "quantize", "finetune", "evaluate"])["quantize"]["form"] == "groups"


def test_a_line_up_has_the_shared_settings_and_each_ones_own_over_them() -> None:
    settings = {"finetune.training.epochs": 2, "compare.recommenders": {"mine": {}}}
    configs = configure("modalities", settings, stages=compare.STAGES)
    lines = configs["compare"]["recommenders"]
    assert list(lines) == ["clicks alone", "texts", "pictures", "texts and pictures", "mine"]
    assert configs["compare"]["names"] == list(lines)
    assert lines["pictures"]["fuse"]["modalities"] == ["image"]
    assert lines["clicks alone"]["finetune"]["recommender"]["content"] == "none"
    assert lines["mine"]["finetune"] == configs["finetune"]
    assert {line["finetune"]["training"]["epochs"] for line in lines.values()} == {2}


def test_defaults_of_a_line_up_are_those_of_the_recommender_they_are_for() -> None:
    lines = configure("compare", {}, stages=compare.STAGES)["compare"]["recommenders"]
    decays = {name: line["finetune"]["training"]["weight_decay"] for name, line in lines.items()}
    assert decays["gru4rec"] == 0 < decays["sasrec"]
    with pytest.raises(ConfigError, match=r"gru4rec\.finetune: training\.weight_decay: gru4rec trains with plain"):
        configure("compare", {"finetune.training.weight_decay": 0.5}, stages=compare.STAGES)


def test_all_that_is_wrong_with_a_line_up_comes_at_once() -> None:
    wrong = {
        "a": {"ingest": {"min_user_events": 2}, "finetune": {"recommender": {"nam": 1}}},
        "b": {"evaluate": {"split": "random"}},
    }
    with pytest.raises(ConfigError) as error:
        configure("modalities", {"compare": {"recommenders": wrong}}, stages=compare.STAGES)
    for said in ("a.ingest: shared by all", "a.finetune.recommender.nam: unknown field"):
        assert said in str(error.value)
    with pytest.raises(ConfigError, match=r"b: evaluate\.split: 'random', but finetune\.split is 'leave_one_out'"):
        configure("modalities", {"compare": {"recommenders": {"b": wrong["b"]}}}, stages=compare.STAGES)
    with pytest.raises(ConfigError, match="names none; see the preset `compare`"):
        configure("laptop", {}, stages=compare.STAGES)
