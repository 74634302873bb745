"""GRU4Rec's parameter spaces as its authors write them."""

from pathlib import Path

import pytest

from modalrec.errors import ConfigError
from modalrec.tuning.experiment import load_experiment, read_experiment
from modalrec.tuning.parameter_space import read_space, space_experiment

MANIFESTS = Path(__file__).parents[2] / "manifests" / "katib"
# paramspaces/ of hidasib/GRU4Rec_PyTorch_Official: names, ends and steps.
NUMBERS = {
    "layers": ("int", 64, 512, 32),
    "batch_size": ("int", 32, 256, 16),
    "learning_rate": ("float", 0.01, 0.25, 0.005),
    "dropout_p_embed": ("float", 0.0, 0.5, 0.05),
    "dropout_p_hidden": ("float", 0.0, 0.7, 0.05),
    "momentum": ("float", 0.0, 0.9, 0.05),
    "sample_alpha": ("float", 0.0, 1.0, 0.1),
}
LINES = [f'{{"name":"{n}", "dtype":"{k}", "values":[{a}, {b}], "step":{s}}}' for n, (k, a, b, s) in NUMBERS.items()]
BPR_MAX = [
    '{"name":"bpreg", "dtype":"float", "values":[0.0, 2.0], "step":0.05}',
    '{"name":"elu_param", "dtype":"categorical", "values":[0.5, 1, 0]}',
]
MODES = {
    "constrained": "constrained_embedding=True",
    "separate": "constrained_embedding=False,embedding=layersize",
    "none": "constrained_embedding=False,embedding=0",
}


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", ["cross-entropy", "bpr-max"])
def test_the_published_spaces_are_the_experiments_of_the_project(tmp_path: Path, loss: str, mode: str) -> None:
    path = write(tmp_path / "space.json", LINES + (BPR_MAX if loss == "bpr-max" else []))
    name, logq = f"gru4rec-{loss}-{mode}", "1.0" if loss == "cross-entropy" else "0.0"
    made = space_experiment(path, name, f"loss={loss},{MODES[mode]},n_sample=2048,logq={logq},n_epochs=10")
    assert load_experiment(MANIFESTS / f"{name}.yaml").document == made
    assert read_experiment(made, name).document == made
    least = read_experiment(made, name).template.command(
        {p.name: p.corners()[0] for p in read_experiment(made, name).parameters}, "t"
    )
    recommender = least.settings()["recommender"]
    assert (recommender["loss"], recommender["embedding"], recommender["layers"]) == (loss, mode, [64])
    assert recommender["n_sample"] == 2048


def test_a_logarithmic_scale_and_words_are_kept(tmp_path: Path) -> None:
    lines = ['{"name":"learning_rate", "dtype":"float", "values":[0.01, 0.1], "log":true}', LINES[0]]
    rate, layers = read_space(write(tmp_path / "space.json", lines))
    assert rate.space == {"min": "0.01", "max": "0.1", "distribution": "logUniform"}
    assert (rate.path, rate.kind, layers.form) == ("training.learning_rate", "double", "[{}]")


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    lines = [
        LINES[0],
        '{"name":"layer", "dtype":"int", "values":[1, 2]}',
        '{"name":"layers", "dtype":"range", "values":[1, 2]}',
        '{"name":"layers", "values":[1, 2]}',
        "layers",
        '{"name":"embedding", "dtype":"int", "values":[1, 2]}',
    ]
    with pytest.raises(ConfigError) as error:
        read_space(write(tmp_path / "space.json", lines))
    told = str(error.value)
    assert all(f"line {number}" in told for number in (2, 3, 4, 5, 6))
    assert "  line 1:" not in told
    assert "line 4: no 'dtype'" in told


def test_a_parameter_is_fixed_or_searched(tmp_path: Path) -> None:
    path = write(tmp_path / "space.json", LINES)
    with pytest.raises(ConfigError, match="batch_size is searched by"):
        space_experiment(path, "twice", "loss=cross-entropy,batch_size=32")
    with pytest.raises(ConfigError, match="los: unknown parameter, did you mean loss"):
        space_experiment(path, "twice", "los=cross-entropy")
    with pytest.raises(ConfigError, match="give a file with a JSON object a line"):
        space_experiment(tmp_path / "none.json", "none", "")
