import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from modalrec.config import Config, dump, load_file, load_preset, nest, parse_assignments, resolve
from modalrec.errors import ConfigError
from modalrec.plugins import any_config
from modalrec.stages import load_stage


class Training(Config):
    epochs: int = Field(10, ge=0)
    batch_size: int = 128


class Stage(Config):
    training: Training = Training(epochs=50)
    encoder: any_config("encoders") | None = None  # type: ignore[valid-type]
    share: float = Field(0.1, gt=0, lt=1)
    required: str


def fails(*layers: dict[str, Any], where: str = "stage") -> str:
    with pytest.raises(ConfigError) as error:
        resolve(Stage, {"required": "yes"}, *layers, where=where)
    return str(error.value)


def test_later_layers_win_and_keep_what_they_do_not_name() -> None:
    config = resolve(Stage, {"required": "a", "training": {"epochs": 1}}, {"training": {"batch_size": 2}})
    assert dump(config) == {
        "training": {"epochs": 1, "batch_size": 2},
        "encoder": None,
        "share": 0.1,
        "required": "a",
    }


def test_a_setting_of_a_part_keeps_the_defaults_of_this_class() -> None:
    assert resolve(Stage, {"required": "a", "training": {"batch_size": 2}}).training == Training(
        epochs=50, batch_size=2
    )


def test_another_plugin_replaces_the_earlier_ones_settings() -> None:
    hashing = {"required": "a", "encoder": {"name": "hashing", "dimension": 64}}
    assert dump(resolve(Stage, hashing, {"encoder": {"name": "minilm"}}))["encoder"]["name"] == "minilm"
    assert dump(resolve(Stage, hashing, {"encoder": {"name": "hashing"}}))["encoder"]["dimension"] == 64


def test_what_is_dumped_resolves_to_the_same() -> None:
    for stage in ("ingest", "quantize", "finetune", "evaluate"):
        _, config_class = load_stage(stage)
        config = resolve(config_class)
        assert resolve(config_class, dump(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainin": {}}, "stage.trainin: unknown field, did you mean training?"),
        ({"training": {"epoch": 1}}, "stage.training.epoch: unknown field, did you mean epochs?"),
        ({"training": {"zzz": 1}}, "stage.training.zzz: unknown field; known fields: epochs, batch_size"),
        ({"encoder": {"name": "hashin"}}, "stage.encoder.name: unknown plug-in 'hashin', did you mean hashing?"),
        (
            {"encoder": {"name": "hashing", "dimesion": 1}},
            "stage.encoder.dimesion: unknown field, did you mean dimension?",
        ),
        (
            {"encoder": {"dimension": 1}},
            "stage.encoder.name: missing; one of efficientnet, hashing, huggingface, minilm",
        ),
        ({"training": {"epochs": -1}}, "stage.training.epochs: Input should be greater than or equal to 0 (given -1)"),
        ({"training": {"epochs": "ten"}}, "(given 'ten')"),
        ({"share": float("nan")}, "stage.share"),
        ({"required": None}, "stage.required: Input should be a valid string (given None)"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_the_right_one(settings: dict[str, Any], message: str) -> None:
    assert message in fails(settings)


def test_all_problems_come_at_once() -> None:
    text = fails({"trainin": {}, "share": 2, "training": {"epochs": "ten"}})
    assert len(text.splitlines()) == 3
    with pytest.raises(ConfigError, match=r"^required: Field required$"):
        resolve(Stage)


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resolve(Stage, {"required": "a"}).share = 0.5


def test_assignments_are_yaml() -> None:
    words = ["a.b=1", "a.c=[1, 2]", "d=null", "e=", "f=x=y", "a.b=2"]
    assert parse_assignments(words) == {"a": {"b": 2, "c": [1, 2]}, "d": None, "e": None, "f": "x=y"}
    for wrong, message in (("a", "field.subfield=value"), ("=1", "field.subfield=value"), ("a=[1", "not YAML")):
        with pytest.raises(ConfigError, match=message):
            parse_assignments([wrong])


def test_nest() -> None:
    assert nest("a.b.c", 1) == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[1, 2]", "expected a mapping"), (b"a: [", "not valid YAML"), (b"\xff\xfe\x00", "not valid YAML")],
)
def test_a_file_that_is_no_mapping_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"settings.yaml: {message}"):
        load_file(path)


def test_files_are_yaml_or_json(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    for text in ('{"a": 1}', "a: 1\n"):
        path.write_text(text)
        assert load_file(path) == {"a": 1}
    path.write_text("")
    assert load_file(path) == {}
    with pytest.raises(ConfigError, match="give an existing YAML or JSON file"):
        load_file(tmp_path / "nowhere")


ENDLESS = [
    "&a [*a]",
    "&a {b: *a}",
    f"[{', '.join(['&a0 [0, 0]'] + [f'&a{n} [*a{n - 1}, *a{n - 1}]' for n in range(1, 40)])}]",
]
"""A value that holds itself, twice, and one of 2^40 values in 40 steps."""


@pytest.mark.parametrize("text", ENDLESS, ids=["list", "mapping", "bomb"])
def test_aliases_without_end_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(f"a: {text}\n")
    with pytest.raises(ConfigError, match=r"settings\.yaml: more than 100,000 values, or aliases"):
        load_file(path)
    with pytest.raises(ConfigError, match=r"--set .* aliases"):
        parse_assignments([f"a={text}"])
    path.write_text("a: &rate {x: 1}\nb: {<<: *rate, y: 2}\n")
    assert load_file(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.dump({"a": Path}))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_file(path)


@pytest.mark.parametrize("name", ["tinny", "../config", "", "tiny.yaml"])
def test_an_unknown_preset_names_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"the presets are arts, .*gpu, laptop, .*tiny"):
        load_preset(name)


def test_presets_are_laid_over_each_other() -> None:
    both = load_preset("pantry+mp4sr")
    assert both["ingest"] == load_preset("pantry")["ingest"]
    assert both["pretrain"]["recommender"] == load_preset("mp4sr")["pretrain"]["recommender"]
    assert both["quantize"] == load_preset("pantry")["quantize"]
    with pytest.raises(ConfigError, match="preset 'mp4s': unknown, did you mean mp4sr"):
        load_preset("pantry+mp4s")


SECRETS = [
    "sk-proj-4f9d8c7b6a5e4f3d2c1b0a99",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "hf_abcdefghijklmnopqrstuvwxyzABCDEF12",
    "-----BEGIN RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("settings", [{"a": "X"}, {"a": {"b": ["c", "key X!"]}}, {"a": {"X": 1}}, {"X": 1}])
def test_what_looks_like_a_secret_is_refused_and_never_repeated(settings: dict[str, Any], secret: str) -> None:
    planted = yaml.safe_load(yaml.safe_dump(settings).replace("X", json.dumps(secret)[1:-1]))
    with pytest.raises(ConfigError, match="looks like a secret key") as caught:
        resolve(Config, planted, where="stage")
    assert secret not in str(caught.value)
    assert "stage" in str(caught.value)


@pytest.mark.parametrize(
    "value", ["risk-averse-recommendation-model", "sk-learn", "AKIA", "s3://bucket/hf_model", "task-1"]
)
def test_words_that_are_no_secrets_pass(value: str) -> None:
    with pytest.raises(ConfigError, match="unknown field"):
        resolve(Config, {"nothing": value})
