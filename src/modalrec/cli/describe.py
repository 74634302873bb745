"""Writes a configuration as YAML with comments: every field, its meaning and its value."""

import json
import re
import textwrap
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from modalrec.config import Config

LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def describe(config: Config) -> str:
    """The configuration as a YAML text that can be read back; comments come from the classes' docstrings."""
    return "\n".join([f"# {_summary(type(config))}", *_fields(config, "")]) + "\n"


def _fields(config: BaseModel, indent: str) -> list[str]:
    lines = []
    meanings = _meanings(type(config))
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        comment = f"{field.description or meanings.get(name, '')} {_allowed(name, field)}".strip()
        lines += textwrap.wrap(comment, 118, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_fields(value, indent + "  ")]
        else:
            plain = config.model_dump(mode="json", include={name})[name]
            lines.append(f"{indent}{name}: {json.dumps(plain)}")  # JSON is YAML, and quotes what needs it
    return lines


def _allowed(name: str, field: FieldInfo) -> str:
    """The limits of a number, the choices of a word, the plug-ins of a kind."""
    limits = [f"{word} {getattr(m, key)}" for m in field.metadata for key, word in LIMITS.items() if hasattr(m, key)]
    models = _models(field.annotation)
    if len(models) > 1:
        limits.append("name is one of " + ", ".join(str(model.model_fields["name"].default) for model in models))
    choices = [choice for choice in _literals(field.annotation) if name != "name"]
    if choices:
        limits.append("one of " + ", ".join(json.dumps(choice) for choice in choices))
    return f"({'; '.join(limits)})" if limits else ""


def _meanings(cls: type[BaseModel]) -> dict[str, str]:
    """From field to text, read from the `Attributes:` sections of the class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        section = re.search(r"^ *Attributes:\n(.*?)(?=^ *\w+:\n|\Z)", base.__doc__ or "", re.MULTILINE | re.DOTALL)
        for name, text in re.findall(r"^ {4,8}(\w+): (.*(?:\n {9,}.*)*)", section[1] if section else "", re.MULTILINE):
            found[name] = " ".join(text.split())
    return found


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _literals(annotation: Any) -> list[Any]:
    parts = get_args(annotation)
    plain = [part for part in parts if isinstance(part, str | int | bool)]
    return plain + [choice for part in parts if not isinstance(part, str | int | bool) for choice in _literals(part)]


def _summary(cls: type[BaseModel]) -> str:
    return (cls.__doc__ or cls.__name__).strip().partition("\n")[0]
