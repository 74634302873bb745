"""Reading Experiments: what is read, and a fixture for everything that is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from modalrec.errors import ConfigError
from modalrec.tuning.build import experiment_yaml, list_field
from modalrec.tuning.experiment import load_experiment, read_experiment
from tests.tuning.small import BOWL, changed, container, document, training

SPEC = ("spec",)
TEMPLATE = ("spec", "trialTemplate")
JOB = (*TEMPLATE, "trialSpec")
POD = (*JOB, "spec", "template", "spec")
TRIAL = (*POD, "containers", 0)


def test_a_good_file_is_read(tmp_path: Path) -> None:
    given = changed(document(), "spec", "objective", "goal", to=0.9)
    given["spec"]["earlyStopping"] = {"algorithmName": "medianstop"}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(given))
    read = load_experiment(path)
    assert [parameter.name for parameter in read.parameters] == ["x", "n", "word"]
    assert (read.objective.metric, read.objective.maximise, read.objective.goal) == ("score", True, 0.9)
    assert read.objective.strategies == {"score": "max"}
    assert (read.max_trials, read.parallel, read.max_failed, read.stopping) == (6, 1, 5, {})
    assert read.collector.kind == "StdOut"
    words = read.template.command({"x": "0.1", "n": "2", "word": "a"}, "t").words
    assert words[:2] == ("python", "-c")
    assert words[2].startswith("import os, sys, time; x = 0.1; n = 2; word = 'a'\n")


def test_a_small_number_stays_a_text_in_the_file(tmp_path: Path) -> None:
    """`kubectl` reads 1e-06 as a number, and Katib refuses it; so does this reader."""
    fields = [list_field("x", [1e-6, 0.5])]
    path = tmp_path / "small.yaml"
    path.write_text(experiment_yaml(document("print(f'score={x}')", fields), "small"))
    assert load_experiment(path).parameters[0].choices == ("1e-06", "0.5")
    path.write_text(path.read_text().replace('"1e-06"', "1e-06"))
    with pytest.raises(ConfigError, match="Input should be a valid string"):
        load_experiment(path)


def test_defaults_are_katibs() -> None:
    given = document(trials=5)
    for field in ("maxTrialCount", "parallelTrialCount", "maxFailedTrialCount", "metricsCollectorSpec"):
        given = changed(given, "spec", field, to=None)
    for field in ("successCondition", "failureCondition"):  # known for Jobs
        given = changed(given, *TEMPLATE, field, to=None)
    read = read_experiment(given, "small.yaml")
    assert (read.max_trials, read.parallel, read.max_failed) == (None, 3, None)


REFUSED: list[tuple[tuple[str | int, ...], Any, str]] = [
    # strict reading
    (("kind",), "Trial", "kind: 'Trial' instead of 'Experiment'"),
    (("apiVersion",), "kubeflow.org/v1", "instead of 'kubeflow.org/v1beta1'"),
    ((*SPEC, "maxTrials"), 5, "spec.maxTrials: unknown to the API"),
    ((*SPEC, "maxTrialCount"), "5", "max_trial_count: Input should be a valid integer|maxTrialCount"),
    ((*SPEC, "parameters", 0, "feasibleSpace", "max"), 1, "max: Input should be a valid string"),
    ((*SPEC, "parameters", 0, "feasibleSpace", "maximum"), "1", r"parameters\[0\].feasibleSpace.maximum: unknown"),
    # the webhook: names and counts
    (("metadata", "name"), "Small", "metadata.name: 'Small' must be lower case"),
    (("metadata", "name"), "small-", "metadata.name: 'small-'"),
    (("metadata", "name"), "s" * 41, "at most 40 characters"),
    ((*SPEC, "maxTrialCount"), 0, "maxTrialCount: 0 is not above 0"),
    ((*SPEC, "parallelTrialCount"), 0, "parallelTrialCount: 0 is not above 0"),
    ((*SPEC, "parallelTrialCount"), 7, "parallelTrialCount: 7 is above maxTrialCount=6"),
    ((*SPEC, "maxFailedTrialCount"), -1, "maxFailedTrialCount: -1 is below 0"),
    ((*SPEC, "maxFailedTrialCount"), 7, "maxFailedTrialCount: 7 is above maxTrialCount=6"),
    ((*SPEC, "resumePolicy"), "Always", "resumePolicy: 'Always'"),
    # objective, algorithm, early stopping
    ((*SPEC, "objective"), None, "spec.objective: missing"),
    ((*SPEC, "objective", "type"), "max", "must be minimize or maximize"),
    ((*SPEC, "objective", "objectiveMetricName"), None, "objectiveMetricName: missing"),
    ((*SPEC, "objective", "additionalMetricNames"), ["score"], "must not contain objectiveMetricName"),
    (
        (*SPEC, "objective", "metricStrategies"),
        [{"name": "score", "value": "mean"}],
        "'mean' is none of min, max, latest",
    ),
    ((*SPEC, "algorithm"), None, "algorithmName: missing"),
    ((*SPEC, "algorithm", "algorithmName"), "nas", "'nas' cannot be run by Optuna"),
    ((*SPEC, "earlyStopping"), {"algorithmName": "hyper"}, "'hyper' is unknown"),
    ((*SPEC, "earlyStopping"), {"algorithmSettings": []}, "earlyStopping.algorithmName: missing"),
    (
        (*SPEC, "earlyStopping"),
        {"algorithmName": "medianstop", "algorithmSettings": [{"name": "start_step", "value": "0"}]},
        "start_step: '0' is not a whole number of 1 or more",
    ),
    (
        (*SPEC, "earlyStopping"),
        {"algorithmName": "medianstop", "algorithmSettings": [{"name": "steps", "value": "1"}]},
        "unknown setting steps",
    ),
    # feasible spaces
    ((*SPEC, "parameters"), None, "spec.parameters: missing"),
    ((*SPEC, "parameters", 0, "parameterType"), "float", "parameterType 'float' is none of"),
    ((*SPEC, "parameters", 0, "feasibleSpace"), {}, "feasibleSpace is missing"),
    ((*SPEC, "parameters", 0, "feasibleSpace", "list"), ["1"], "list is for discrete and categorical"),
    ((*SPEC, "parameters", 0, "feasibleSpace", "min"), None, "needs min and max"),
    ((*SPEC, "parameters", 2, "feasibleSpace", "min"), "1", "a categorical parameter has a list alone"),
    ((*SPEC, "parameters", 0, "feasibleSpace", "distribution"), "normal", "'normal' cannot be drawn by Optuna"),
    ((*SPEC, "parameters", 1, "name"), "x", "x is there twice"),
    # trial parameters
    ((*TEMPLATE, "trialParameters"), None, "trialParameters: missing"),
    ((*TEMPLATE, "trialParameters", 0, "reference"), "y", "refers to y, which is not among spec.parameters"),
    ((*TEMPLATE, "trialParameters", 0, "reference"), None, "needs a name without braces, and a reference"),
    ((*TEMPLATE, "trialParameters", 0, "name"), "{x}", "needs a name without braces"),
    ((*TEMPLATE, "trialParameters", 0, "name"), "y", "y is not used"),
    ((*TEMPLATE, "trialParameters", 0, "name"), "n", "the name n is there twice"),
    ((*TEMPLATE, "trialParameters", 0, "reference"), "n", "the reference n is there twice"),
    ((*TEMPLATE, "trialParameters", 0), None, "x is used by no trial parameter"),
    ((*TRIAL, "args"), ["x${trialParameters.z}"], "trialParameters.z. is not among trialParameters"),
    # the trial
    ((*SPEC, "trialTemplate"), None, "spec.trialTemplate: missing"),
    ((*TEMPLATE, "primaryContainerName"), None, "primaryContainerName: missing"),
    ((*TEMPLATE, "primaryContainerName"), "main", "0 containers named 'main'"),
    (JOB, None, "trialSpec: missing"),
    ((*TEMPLATE, "configMap"), {"configMapName": "c"}, "the trial must be in the file itself"),
    ((*JOB, "metadata"), {"name": "trial"}, "name and namespace must be left out"),
    ((*JOB, "apiVersion"), None, "apiVersion or kind is missing"),
    ((*JOB, "kind"), "Pod", "needs successCondition|a trial is a Job"),
    ((*JOB, "spec", "template", "spec", "containers"), [], "is nowhere in trialSpec"),
    ((*JOB, "spec", "backofflimit"), 1, "backofflimit: unknown field of a Job's spec"),
    ((*JOB, "spec", "backoffLimit"), "1", "backoffLimit: '1' is not of type int"),
    ((*JOB, "status"), {}, "status: unknown field of a Job"),
    ((*POD, "restartPolicy"), "Always", "'Always' must be Never or OnFailure"),
    ((*POD, "toleration"), [], "toleration: unknown to the API"),
    ((*TRIAL, "arg"), ["x"], r"containers\[0\].arg: unknown to the API"),
    ((*TRIAL, "image"), 5, "image: Input should be a valid string"),
    ((*TRIAL, "command"), None, "has no command"),
    # the metrics collector
    ((*SPEC, "metricsCollectorSpec", "collector", "kind"), "TensorFlowEvent", "'TensorFlowEvent' cannot be read here"),
    ((*SPEC, "metricsCollectorSpec", "source"), {"filter": {"metricsFormat": ["(a"]}}, "is no regular expression"),
    ((*SPEC, "metricsCollectorSpec", "source"), {"filter": {"metricsFormat": ["(a)"]}}, "needs two groups"),
    (
        (*SPEC, "metricsCollectorSpec", "source"),
        {"filter": {"metricsFormat": ["(a)=(b);"]}},
        "a semicolon, where Katib takes it apart",
    ),
    (
        (*SPEC, "metricsCollectorSpec", "source"),
        {"filter": {"metricsFormat": [r"(a)=(?!-)(b)"]}},
        "looks around or back, which Go's",
    ),
    ((*SPEC, "metricsCollectorSpec", "source"), {"filter": {"metricsFormat": [r"(a)=\1(b)"]}}, "looks around or back"),
]


@pytest.mark.parametrize(
    ("path", "to", "told"),
    REFUSED,
    ids=lambda value: "-".join(map(str, value))[-40:] if isinstance(value, tuple) else None,
)
def test_what_katib_or_kubernetes_would_refuse_is_refused(path: tuple[str | int, ...], to: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_experiment(changed(document(), *path, to=to), "small.yaml")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"path": "metrics.log", "kind": "File", "format": "TEXT"}, "'metrics.log' is not an absolute path"),
        ({"path": "/metrics.log", "kind": "File"}, "format: None must be TEXT or JSON"),
        ({"path": "/metrics", "kind": "Directory", "format": "TEXT"}, "kind: 'Directory' must be File"),
        ({"path": "/metrics.log", "kind": "File", "format": "CSV"}, "format: 'CSV' must be TEXT or JSON"),
    ],
)
def test_a_file_collector_needs_an_absolute_path_and_a_format(place: dict[str, str], told: str) -> None:
    given = {"collector": {"kind": "File"}, "source": {"fileSystemPath": place}}
    with pytest.raises(ConfigError, match=told):
        read_experiment(changed(document(), "spec", "metricsCollectorSpec", to=given), "small.yaml")


def test_a_filter_goes_with_texts_alone() -> None:
    place = {"path": "/metrics.json", "kind": "File", "format": "JSON"}
    for formats in (["(a)=(b)"], []):
        source = {"fileSystemPath": place, "filter": {"metricsFormat": formats}}
        given = {"collector": {"kind": "File"}, "source": source}
        with pytest.raises(ConfigError, match="goes with TEXT alone"):
            read_experiment(changed(document(), "spec", "metricsCollectorSpec", to=given), "small.yaml")


def test_all_problems_are_told_at_once() -> None:
    given = changed(document(), "metadata", "name", to="Small")
    given = changed(given, "spec", "maxTrialCount", to=0)
    with pytest.raises(ConfigError) as error:
        read_experiment(given, "small.yaml")
    assert "small.yaml" in str(error.value)
    assert "metadata.name" in str(error.value)
    assert "maxTrialCount" in str(error.value)


def test_a_training_is_checked_against_its_stage() -> None:
    assert (
        read_experiment(training(), "t").template.command({"recommender.layers": "16"} | RATE, "t").stage == "finetune"
    )


RATE = {"training.learning_rate": "0.1"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "recommender.layers=",
            "recommender.layer=",
            "sets the field recommender.layer; give the parameter the field's",
        ),
        (
            "--set=recommender.n_sample=16",
            "--set=recommender.n_samples=16",
            "n_samples: unknown field, did you mean n_sample",
        ),
        ("--preset=session", "--preset=sesion", "unknown, did you mean session"),
        ("--dataset=s3://bucket/dataset", "--codes=s3://bucket/codes", "`finetune` needs --dataset"),
        ("--set=training.epochs=2", "--set=training.epochs=two", "training.epochs"),
    ],
)
def test_settings_that_the_stage_does_not_know_are_refused(old: str, new: str, told: str) -> None:
    given = training()
    container(given)["args"] = [word.replace(old, new) for word in container(given)["args"]]
    with pytest.raises(ConfigError, match=told):
        read_experiment(given, "training.yaml")


@pytest.mark.parametrize(
    "word", ['--set=training={"epochs": 2}', "--set=monitor='mrr_20'", "--set=seed=$HOME", "--x=a;b"]
)
def test_a_word_that_katibs_shell_would_change_is_refused(word: str) -> None:
    given = training()
    container(given)["args"].append(word)
    with pytest.raises(ConfigError, match=r"would not come through Katib.*--set=a\.b=1"):
        read_experiment(given, "training.yaml")


def test_a_folder_may_be_called_as_it_likes() -> None:
    given = training()
    container(given)["args"][0] = "--dataset=my data/it's"
    assert read_experiment(given, "training.yaml").template.unfilled().options()[0] == ("dataset", "my data/it's")


def test_a_value_that_the_stage_refuses_is_found_before_any_trial() -> None:
    given = changed(training(), "spec", "parameters", 1, "feasibleSpace", to={"min": "-1", "max": "0.1"})
    with pytest.raises(ConfigError, match=r"training.learning_rate: .*greater than 0"):
        read_experiment(given, "training.yaml")


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("mrr_20", "`finetune` prints no mrr_20; it prints best_epoch, valid_"),
        ("valid_recall_50", "prints no valid_recall_50"),
        ("valid_ndcg_10", "epochs are chosen by valid_mrr_20; set both alike"),
    ],
)
def test_the_objective_is_a_metric_that_the_command_prints(metric: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_experiment(changed(training(), "spec", "objective", "objectiveMetricName", to=metric), "training.yaml")


def test_a_model_of_clicks_prints_nothing_of_ratings() -> None:
    given = training()
    container(given)["args"] = ["--dataset=s3://bucket/dataset", "--model=/tmp/model", "--set=recommender.name=din"]
    container(given)["args"] += ["--set=training.learning_rate=${trialParameters.training.learning_rate}"]
    for field in (("spec", "parameters", 0), (*TEMPLATE, "trialParameters", 0)):
        given = changed(given, *field, to=None)
    objective = ("spec", "objective", "objectiveMetricName")
    assert read_experiment(changed(given, *objective, to="valid_auc"), "din.yaml").objective.metric == "valid_auc"
    with pytest.raises(ConfigError, match="prints no valid_neg_rmse; it prints best_epoch, valid_auc"):
        read_experiment(changed(given, *objective, to="valid_neg_rmse"), "din.yaml")


def test_places_take_the_place_of_the_templates() -> None:
    command = read_experiment(training(), "t").template.command({"recommender.layers": "16"} | RATE, "t")
    moved = command.with_places({"dataset": "here", "embeddings": "there"})
    assert moved.words[2] == "--dataset=here"
    assert moved.words[-1] == "--embeddings=there"
    with pytest.raises(ConfigError, match="--codebook: the trial's command, modalrec finetune, has no such option"):
        command.with_places({"codebook": "here"})
    assert command.settings()["recommender"]["layers"] == [16]
    assert command.settings()["split"] == "sessions", "of the preset"


def test_options_are_read_with_and_without_an_equals_sign() -> None:
    given = training()
    words = container(given)["args"]
    container(given)["args"] = ["--dataset", "s3://bucket/dataset", "--quiet", *words[1:]]
    command = read_experiment(given, "t").template.command({"recommender.layers": "16"} | RATE, "t")
    assert ("dataset", "s3://bucket/dataset") in command.options()
    assert ("quiet", "") in command.options()
    assert command.with_places({"dataset": "here"}).words[2:4] == ("--dataset=here", "--quiet")


def test_a_parameter_may_be_a_fact_of_the_trial() -> None:
    given = document(code=BOWL + "; print('${trialParameters.who}')")
    given["spec"]["trialTemplate"]["trialParameters"].append({"name": "who", "reference": "${trialSpec.Name}"})
    read = read_experiment(given, "small.yaml")
    assert "print('trial-7')" in read.template.command({"x": "0", "n": "1", "word": "a"}, "trial-7").words[2]


def test_another_program_is_not_checked() -> None:
    given = document()
    assert (
        read_experiment(given, "small.yaml").template.command(dict.fromkeys("xn", "1") | {"word": "a"}, "t").stage
        is None
    )
