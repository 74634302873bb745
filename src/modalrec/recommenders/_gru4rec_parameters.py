"""Parameters as the authors' `run.py` takes them, a string or a Python file, turned into settings of `finetune`."""

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalrec.errors import ConfigError

VARIABLE = "gru4rec_params"
RECOMMENDER = (
    "loss",
    "elu_param",
    "dropout_p_embed",
    "dropout_p_hidden",
    "momentum",
    "n_sample",
    "sample_alpha",
    "bpreg",
    "logq",
)
TRAINING = {"n_epochs": "epochs", "batch_size": "batch_size", "learning_rate": "learning_rate"}
NUMBERS = {*RECOMMENDER, *TRAINING} - {"loss"}
WHOLE = {"n_sample", "n_epochs", "batch_size"}
KNOWN = ("layers", "embedding", "constrained_embedding", *RECOMMENDER, *TRAINING)
DEFAULTS = {"layers": [100], "embedding": 0, "constrained_embedding": True}


def finetune_settings(given: str) -> dict[str, Any]:
    """Reads a parameter string, such as `layers=200/200,loss=bpr-max`, or the path of a parameter file.

    A file is parsed and never executed: it must assign a literal, a dict or an OrderedDict of pairs, to
    `gru4rec_params`.

    Returns:
        Settings for `finetune`: {"recommender": {...}, "training": {...}}.

    Raises:
        ConfigError: All unknown names and wrong values at once, or a file that is not as expected.
    """
    where = "parameters"
    if given.endswith(".py") or ("=" not in given and Path(given).exists()):
        where, parameters = given, _from_file(Path(given))
    else:
        parameters = _from_string(given)
    problems: list[str] = []
    values = {name: _value(name, value, problems) for name, value in parameters.items()}
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in problems))
    return _settings(values)


def _from_string(given: str) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for part in given.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"parameters: {part!r}: write name=value, with commas between and / inside of lists")
        parameters[name.strip()] = value.strip()
    return parameters


def _from_file(path: Path) -> dict[str, Any]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give an existing file or name=value,...") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{path}: not Python ({error}); give a parameter file or name=value,...") from None
    for node in tree.body:
        names = [target.id for target in getattr(node, "targets", []) if isinstance(target, ast.Name)]
        if isinstance(node, ast.Assign) and VARIABLE in names:
            value = node.value
            if isinstance(value, ast.Call) and getattr(value.func, "id", "") in ("OrderedDict", "dict") and value.args:
                value = value.args[0]
            try:
                return {str(name): item for name, item in dict(ast.literal_eval(value)).items()}
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                break
    raise ConfigError(
        f"{path}: assigns no literal to {VARIABLE}; it is read, not executed, so write "
        f"{VARIABLE} = OrderedDict([('layers', [100]), ...]) with plain values"
    )


def _value(name: str, value: Any, problems: list[str]) -> Any:
    """A value in its type, or a problem."""
    if name not in KNOWN:
        close = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f", did you mean {close[0]}?" if close else f"; known: {', '.join(KNOWN)}"
        problems.append(f"{name}: unknown parameter{hint}")
        return None
    try:
        if name == "layers":
            parts = value.split("/") if isinstance(value, str) else value
            return [int(part) for part in (parts if isinstance(parts, list | tuple) else [parts])]
        if name == "constrained_embedding":
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if name == "embedding":
            return value if value == "layersize" else int(value)
        if name in NUMBERS:
            number = float(value)
            if name in WHOLE and number != int(number):
                raise ValueError
            return int(number) if name in WHOLE else number
        return str(value)
    except (ValueError, TypeError, KeyError):
        kind = {"layers": "whole numbers with / between", "constrained_embedding": "True or False"}
        kind["embedding"] = "a whole number or layersize"
        wanted = kind.get(name, "a whole number" if name in WHOLE else "a number")
        problems.append(f"{name}: {value!r} is not {wanted}")
        return None


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    values = {**DEFAULTS, **values}
    recommender: dict[str, Any] = {"name": "gru4rec", "layers": values["layers"]}
    # The authors let `constrained_embedding`, which is on by default, win over `embedding`.
    if values["constrained_embedding"]:
        recommender["embedding"] = "constrained"
    elif values["embedding"]:
        size = values["layers"][0] if values["embedding"] == "layersize" else values["embedding"]
        recommender |= {"embedding": "separate", "embedding_size": size}
    else:
        recommender["embedding"] = "none"
    recommender |= {name: values[name] for name in RECOMMENDER if name in values}
    training = {ours: values[theirs] for theirs, ours in TRAINING.items() if theirs in values}
    return {"recommender": recommender, "training": training}
