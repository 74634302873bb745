"""Parameter spaces as the authors of GRU4Rec write them, a JSON object a line, turned into an Experiment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalrec.errors import ConfigError, Problems
from modalrec.recommenders._gru4rec_parameters import KNOWN, TRAINING, finetune_settings
from modalrec.tuning.build import BUCKET, Field, build_experiment, list_field, number_field
from modalrec.tuning.fields import EPOCH

SPLIT_SETTINGS = "session"
"""The preset whose split and ranking the trials take."""

EVERY = 10_000_000
"""Validation targets that are ranked at most: all of them, as in the published protocol."""


def read_space(path: Path) -> list[Field]:
    """Reads a space: `{"name": "layers", "dtype": "int", "values": [64, 512], "step": 32}` a line.

    Raises:
        ConfigError: Every line that is no parameter of GRU4Rec with values, by its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}; give a file with a JSON object a line") from None
    problems = Problems(path, ConfigError)
    fields = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields.append(_field(json.loads(line)))
        except KeyError as error:
            problems.add(f"line {number}", f"no {error} in {line.strip()!r}")
        except (ValueError, TypeError) as error:
            problems.add(f"line {number}", f"{error} in {line.strip()!r}")
    if not fields and not len(problems):
        problems.add("", "names no parameter")
    problems.raise_if_any('Write {"name": ..., "dtype": "int", "float" or "categorical", "values": [...]} a line')
    return fields


def space_experiment(path: Path, name: str, fixed: str, dataset: str = "", trials: int = 100) -> dict[str, Any]:
    """An Experiment of a space and the parameters that stay.

    Args:
        path: The space's file.
        name: The Experiment's name.
        fixed: Parameters as the authors' `-fp` takes them: `loss=cross-entropy,n_sample=2048`.
        dataset: Address of the dataset.
        trials: How many.

    Raises:
        ConfigError: The file or the parameters are not as expected, or a parameter is in both.
    """
    fields = read_space(path)
    searched = {field.path for field in fields}
    given = finetune_settings(fixed or "loss=cross-entropy")
    named = {part.partition("=")[0].strip() for part in fixed.split(",") if part.strip()}
    both = sorted(named & {_theirs(each) for each in searched})
    if both:
        raise ConfigError(f"fixed parameters: {', '.join(both)} is searched by {path} too; leave it out of one")
    settings = {f"{part}.{key}": value for part, values in given.items() for key, value in values.items()}
    if "recommender.layers" in searched and "embedding=layersize" in fixed:
        del settings["recommender.embedding_size"]  # which is the searched layer's where nothing is said
    return build_experiment(
        name,
        "finetune",
        fields,
        metric="valid_mrr_20",
        others=("valid_recall_20", EPOCH),
        preset=SPLIT_SETTINGS,
        settings=[
            *(f"{field}={_text(value)}" for field, value in settings.items() if field not in searched),
            "training.patience=0",
            f"validation_users={EVERY}",
        ],
        edges={"dataset": dataset or f"{BUCKET}/datasets/sessions"},
        output="model",
        algorithm_settings={"random_state": "42"},
        trials=trials,
    )


def _field(given: Mapping[str, Any]) -> Field:
    name, kind, values = given["name"], given["dtype"], given["values"]
    if name not in KNOWN or name in ("embedding", "constrained_embedding"):
        raise ValueError(f"{name!r} is no parameter of GRU4Rec that can be searched")
    path = f"training.{TRAINING[name]}" if name in TRAINING else f"recommender.{name}"
    if kind == "categorical":
        found = list_field(path, values)
    elif kind in ("int", "float") and len(values) == 2:
        low, high = values
        whole = {"int": "int", "float": "double"}[kind]
        found = number_field(path, whole, low, high, given.get("step"), bool(given.get("log", False)))
    else:
        raise ValueError(f"dtype {kind!r} with {len(values)} values is none of int, float (two) and categorical")
    return Field(path, found.kind, found.space, "[{}]") if name == "layers" else found


def _theirs(path: str) -> str:
    own = {f"training.{ours}": theirs for theirs, ours in TRAINING.items()}
    return own.get(path, path.removeprefix("recommender."))


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else f"{value:.12g}" if isinstance(value, float) else str(value)
