"""Finding recipes: modules of `pipelines/` with a `pipeline`, listed nowhere."""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import pipelines
from modalrec.errors import ConfigError


def names() -> list[str]:
    """The recipes' names, sorted."""
    modules = (info.name for info in pkgutil.iter_modules(pipelines.__path__) if not info.name.startswith("_"))
    return sorted(name for name in modules if hasattr(importlib.import_module(f"pipelines.{name}"), "pipeline"))


def load(name: str) -> ModuleType:
    """The module of a recipe.

    Raises:
        ConfigError: There is no such recipe; the known ones are listed.
    """
    known = names()
    if name not in known:
        raise ConfigError(f"recipe {name!r}: unknown{_hint(name, known)}; the recipes are {', '.join(known)}")
    return importlib.import_module(f"pipelines.{name}")


def searching(name: str, settings: Mapping[str, Any]) -> str:
    """The recipe, or the one that searches first where the settings say something of `tune`.

    Args:
        name: The recipe.
        settings: From stage to settings, nested or with dotted keys.

    Raises:
        ConfigError: There is no such recipe.
    """
    asked = any(key.partition(".")[0] == "tune" for key in settings)
    return str(getattr(load(name), "TUNED", name)) if asked else name


def check_arguments(pipeline: Any, arguments: Mapping[str, Any]) -> None:
    """Checks the names of a pipeline's arguments.

    Raises:
        ConfigError: An argument is unknown, or one without a default is missing; all in one message.
    """
    inputs = pipeline.component_spec.inputs or {}
    problems = [
        f"{name}: unknown parameter{_hint(name, inputs)}; known: {', '.join(inputs)}"
        for name in arguments
        if name not in inputs
    ]
    problems += [
        f"{name}: missing; give {name}=... ({spec.description})"
        for name, spec in inputs.items()
        if not spec.optional and name not in arguments
    ]
    if problems:
        raise ConfigError("\n".join(problems))


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""
