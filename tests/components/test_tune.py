"""The component `tune`: which experiment it takes, what it makes of it, and where it runs it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components.tune import search
from components.tune.component import tune
from modalrec.config import PRESETS, dump, load_preset, parse_assignments, resolve
from modalrec.errors import ConfigError
from modalrec.stages import load_stage
from modalrec.stages.configure import configure
from modalrec.tuning.experiment import load_experiment
from modalrec.tuning.recipe import Pod, around, fitting_experiment
from modalrec.tuning.template import PLACEHOLDER
from modalrec.tuning.webhook import LONGEST_NAME
from pipelines import session_tuned

STAGES = session_tuned.STAGES


def finetune(*layers: dict[str, Any], preset: str = "session") -> dict[str, Any]:
    return dump(resolve(load_stage("finetune")[1], load_preset(preset).get("finetune") or {}, *layers))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (finetune(), "gru4rec-cross-entropy-constrained"),
        (finetune({"recommender": {"loss": "bpr-max"}}), "gru4rec-bpr-max-constrained"),
        (finetune({"recommender": {"loss": "bpr-max", "embedding": "none"}}), "gru4rec-bpr-max-none"),
        (finetune(preset="sasrec"), "sasrec"),
        (finetune(preset="scientific"), "encoder_decoder"),
        (finetune(preset="rpg"), "encoder_retrieve"),
    ],
)
def test_the_experiment_of_the_recommender_is_found(config: dict[str, Any], name: str) -> None:
    found = fitting_experiment(search.EXPERIMENTS, config)
    assert found.document == load_experiment(search.EXPERIMENTS / f"{name}.yaml").document


def test_another_one_can_be_named_and_none_is_invented() -> None:
    assert fitting_experiment(search.EXPERIMENTS, finetune(), "sasrec").name == "sasrec"
    with pytest.raises(ConfigError, match=r"tune.experiment: 'sasrek' .*did you mean sasrec"):
        fitting_experiment(search.EXPERIMENTS, finetune(), "sasrek")
    with pytest.raises(ConfigError, match=r"no experiment of .* fits the recommender hybrid"):
        fitting_experiment(search.EXPERIMENTS, {"recommender": {"name": "hybrid"}})


def test_the_recipes_settings_are_those_of_every_trial() -> None:
    config = finetune({"training": {"epochs": 3}, "monitor": "recall_20"})
    space = fitting_experiment(search.EXPERIMENTS, config)
    pod = Pod("r/t:1", "nvidia.com/gpu", 2, {"pool": "a"}, [{"key": "k", "operator": "Exists"}], "8Gi")
    made = around(space, config, {"dataset": "s3://b/d", "checkpoints": "s3://b/c"}, trials=4, parallel=9, pod=pod)
    corner = {parameter.name: parameter.corners()[0] for parameter in made.parameters}
    settings = made.template.command(corner, "t").settings()
    assert made.parameters == space.parameters
    assert settings["training"]["epochs"] == 3
    assert settings["recommender"] == {
        **config["recommender"],
        **{
            name.removeprefix("recommender."): json.loads(text)
            for name, text in corner.items()
            if "recommender." in name
        },
        "layers": [64],
    }
    assert made.objective.metric == "valid_recall_20"
    assert (made.max_trials, made.parallel) == (4, 4)
    (container,) = made.template.spec["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "r/t:1"
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    assert made.template.spec["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "a"}
    assert len(made.name) <= LONGEST_NAME
    again = around(space, config, {"dataset": "s3://b/d", "checkpoints": "s3://b/c"}, trials=4, parallel=9, pod=pod)
    assert again.name == made.name, "a step that is tried again finds its experiment"
    other = around(space, config, {"dataset": "s3://b/e", "checkpoints": "s3://b/c"}, trials=4, parallel=9, pod=pod)
    assert other.name != made.name


@pytest.mark.parametrize("preset", [path.stem for path in sorted(PRESETS.glob("*.yaml"))])
def test_all_settings_of_a_recipe_come_through_katibs_shell(preset: str) -> None:
    """Katib gives the words with spaces between to `sh -c`: what is one word here must be one there."""
    config = finetune(preset=preset)
    try:
        space = fitting_experiment(search.EXPERIMENTS, config)
    except ConfigError:
        pytest.skip(f"no experiment for {config['recommender']['name']}")
    made = around(space, config, {"dataset": "s3://b/d", "checkpoints": "s3://b/c"}, trials=2)
    words = [word for word in made.template.words() if PLACEHOLDER.search(word) is None]
    line = " ".join(("printf", "%s\\\\n", *words))
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == words
    given = parse_assignments(word.removeprefix("--set=") for word in said if word.startswith("--set="))
    assert finetune(given, preset=preset) == config


def test_a_pretrained_recommender_stays_as_it_is() -> None:
    config = finetune(preset="scientific")
    space = fitting_experiment(search.EXPERIMENTS, config)
    made = around(space, config, {"dataset": "d", "codes": "c", "pretrained": "p", "checkpoints": "k"}, trials=4)
    assert {parameter.name for parameter in made.parameters} == {"training.learning_rate", "training.batch_size"}


def test_a_recipe_that_cannot_tune_says_so() -> None:
    with pytest.raises(ConfigError, match="tune: not a stage of this recipe"):
        configure("session", {"tune.trials": 3}, stages=session_tuned.session.STAGES)
    with pytest.raises(ConfigError, match=r"tune.trials: .*greater than or equal to 1"):
        configure("session", {"tune.trials": 0}, stages=STAGES)
    assert configure("session", {"tune.trials": 3}, stages=STAGES)["tune"]["trials"] == 3


def test_on_a_cluster_the_experiment_is_katibs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod knows its namespace from a file; trials get the artifacts' addresses."""
    seen: dict[str, Any] = {}
    best = {"trial": 1, "name": "t", "state": "succeeded", "value": 0.5, "metrics": {"valid_mrr_20": 0.5}, "epochs": []}

    def run(self: Any, document: dict[str, Any], run: Any) -> list[dict[str, Any]]:
        seen.update(document=document, namespace=self.namespace)
        parameters = {each["name"]: each["feasibleSpace"]["min"] for each in document["spec"]["parameters"]}
        return [{**best, "parameters": parameters, "seconds": 1.0, "error": None}]

    monkeypatch.setattr("modalrec.tuning.katib.Cluster.run", run)
    (tmp_path / "namespace").write_text("ranch\n")
    monkeypatch.setattr(search, "ACCOUNT", tmp_path / "namespace")
    monkeypatch.setenv("MODALREC_CHECKPOINTS", "s3://mlpipeline/checkpoints")
    outputs = {name: tune.component_spec.outputs[name] for name in ("metrics", "report")}
    assert set(outputs) == {"metrics", "report"}

    class Artifact:
        def __init__(self, path: Path, uri: str = "") -> None:
            self.path, self.uri, self.metadata = str(path), uri, {}

        def log_metric(self, name: str, value: float) -> None:
            self.metadata[name] = value

    metrics, report = Artifact(tmp_path / "metrics"), Artifact(tmp_path / "report")
    found = search.execute_search(
        json.dumps(finetune()),
        json.dumps({"trials": 2, "parallel": 0, "experiment": ""}),
        0,
        inputs={"dataset": Artifact(tmp_path, "minio://mlpipeline/v2/dataset"), "codes": None},
        pod=("r/t:1", "nvidia.com/gpu", 1, {}, [], "8Gi"),
        metrics=metrics,
        report=report,
    )
    assert seen["namespace"] == "ranch"
    args = seen["document"]["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--dataset=s3://mlpipeline/v2/dataset" in args
    assert "--checkpoints=s3://mlpipeline/checkpoints" in args
    tuned = json.loads(found.finetune)
    assert tuned["recommender"]["layers"] == [64]
    assert dump(resolve(load_stage("finetune")[1], tuned)) == tuned
    assert metrics.metadata == {"valid_mrr_20": 0.5, "trials": 1, "best_trial": 1}
    assert "gru4rec" in Path(report.path).read_text()
