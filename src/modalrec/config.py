"""Configurations: pydantic models that refuse unknown keys and say which one was meant."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from modalrec.errors import ConfigError

PRESETS = Path(__file__).parent / "presets"
SECRETS = re.compile(
    r"\bsk-[\w-]{16,}|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[a-z]_\w{30,}|\bgithub_pat_\w{20,}|\bhf_\w{30,}|\bAIza[\w-]{35}"
    r"|\bxox[a-z]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]*:[^/\s]+@"
)
"""Keys of OpenAI, AWS, GitHub, Hugging Face, Google and Slack, private keys, and passwords in addresses."""
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What the YAML reader raises: errors of its own, and others for 2001-99-99, a number of 5,000 digits, `!!int ""`."""
MOST_VALUES = 100_000
"""Of a file, or of an assignment."""
MOST_BYTES = 256 << 10
"""Of a file; a reader of YAML takes a second for so many, and some files have no end."""


class Config(BaseModel):
    """Base of every configuration: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def defaults(cls, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that settings are merged over, of the fields that are configurations themselves.

        A setting of one field of a part leaves the rest of the part at its default in this class.

        Args:
            settings: All settings, for a class in which one of them decides the defaults of others.
        """
        fields = {name: field.default for name, field in cls.model_fields.items()}
        return {name: part.model_dump() for name, part in fields.items() if isinstance(part, BaseModel)}


ConfigT = TypeVar("ConfigT", bound=Config)


def resolve(cls: type[ConfigT], *layers: Mapping[str, Any], where: str = "") -> ConfigT:
    """Merges layers of settings over the class's defaults, later ones winning, and validates the result.

    Args:
        cls: The configuration class.
        *layers: Nested mappings. A plug-in's mapping with another `name` replaces the earlier one whole.
        where: A prefix for the paths in error messages, such as the stage's name.

    Raises:
        ConfigError: All wrong keys and values at once, unknown keys with the nearest known one; or a value looks like a
            secret, which would be written into manifests.
    """
    merged = _layered(cls.defaults({}), layers)
    merged = _layered(cls.defaults(merged), layers)
    if places := _secrets(merged, where):
        raise ConfigError(
            f"{', '.join(places)}: looks like a secret key, and settings are written into manifests and logs; take it "
            "out, set it as an environment variable, and change the key if the settings were stored"
        )
    try:
        return cls.model_validate(merged)
    except ValidationError as error:
        problems = [_explain(cls, dict(problem), where) for problem in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Layers of settings in one mapping, later ones winning as in `resolve`, nothing validated."""
    return _layered({}, layers)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Turns `["quantizer.levels=3"]` into `{"quantizer": {"levels": 3}}`; values are YAML.

    Raises:
        ConfigError: An assignment has no `=` or its value is not YAML.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {assignment!r}: write it as field.subfield=value")
        try:
            value = yaml.safe_load(text)
        except UNREADABLE as error:
            raise ConfigError(f"--set {assignment!r}: the value is not YAML ({error}); quote it") from None
        _refuse_endless(value, f"--set {assignment!r}")
        settings = _merge(settings, nest(path.strip(), value))
    return settings


def nest(path: str, value: Any) -> dict[str, Any]:
    """Puts a value at a dotted path: `nest("a.b", 1)` is `{"a": {"b": 1}}`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def flatten(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values by their dotted paths, the other way round: `flatten({"a": {"b": 1}})` is `{"a.b": 1}`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping) and bool(value)
        found |= flatten(value, f"{before}{key}.") if inner else {f"{before}{key}": value}
    return found


def load_file(path: Path) -> dict[str, Any]:
    """Reads a YAML or JSON mapping.

    Raises:
        ConfigError: The file is missing, unreadable, or not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"{path}: has more than {MOST_BYTES:,} bytes, which no settings need; is it data?")
        loaded = yaml.load(content.decode(), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give an existing YAML or JSON file") from None
    except UNREADABLE as error:
        raise ConfigError(f"{path}: not valid YAML or JSON: {error}") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, found {type(loaded).__name__}")
    _refuse_endless(loaded, str(path))
    return loaded


def _refuse_endless(value: Any, where: str) -> None:
    """Refuses what YAML's aliases make of a few lines: a value that holds itself, or more than any memory."""
    waiting, seen = [value], 0
    while waiting:
        part = waiting.pop()
        seen += 1
        if seen > MOST_VALUES:
            raise ConfigError(
                f"{where}: more than {MOST_VALUES:,} values, or aliases (*name) without end; write them out"
            )
        if isinstance(part, Mapping):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


class _Loader(yaml.SafeLoader):
    """Reads 1e-6 as a number, as JSON and Kubernetes do; YAML 1.1 takes it for a text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load_preset(name: str) -> dict[str, Any]:
    """Reads a preset: a mapping from stage to settings; of `a+b` those of b over those of a.

    Raises:
        ConfigError: There is no preset of that name; the known ones are listed.
    """
    if "+" in name:
        return _layered({}, [load_preset(part) for part in name.split("+")])
    path = PRESETS / f"{name}.yaml"
    if not name.replace("_", "").isalnum() or not path.is_file():
        known = ", ".join(sorted(preset.stem for preset in PRESETS.glob("*.yaml")))
        raise ConfigError(f"preset {name!r}: unknown{_suggestion(name, known.split(', '))}; the presets are {known}")
    return load_file(path)


def dump(config: Config) -> dict[str, Any]:
    """The configuration as plain JSON values, every default written out."""
    return json.loads(config.model_dump_json())


def _secrets(value: Any, path: str) -> list[str]:
    """The paths of values, and of keys, that look like secrets; never what they are."""
    if isinstance(value, Mapping):
        named = [path or "a field's name" for key in value if SECRETS.search(str(key))]
        inner = [found for key, part in value.items() for found in _secrets(part, f"{path}.{key}".lstrip("."))]
        return named or inner
    if isinstance(value, list | tuple):
        return [found for place, part in enumerate(value) for found in _secrets(part, f"{path}.{place}")]
    return [path] if isinstance(value, str) and SECRETS.search(value) else []


def _layered(base: Mapping[str, Any], layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    merged = dict(base)
    for layer in layers:
        merged = _merge(merged, layer)
    return merged


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    if "name" in over and "name" in base and over["name"] != base["name"]:
        return dict(over)
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(known, value) if both else value  # type: ignore[arg-type]
    return merged


def _explain(cls: type[Config], problem: dict[str, Any], where: str) -> str:
    owner, path = _owner(cls, problem["loc"])
    shown = ".".join([where, *path] if where else path)
    if problem["type"] == "extra_forbidden":
        known = list(owner.model_fields) if owner else []
        hint = _suggestion(path[-1], known) or f"; known fields: {', '.join(known)}"
        return f"{shown}: unknown field{hint}"
    if problem["type"] == "union_tag_invalid":
        tag, expected = problem["ctx"]["tag"], problem["ctx"]["expected_tags"]
        hint = _suggestion(tag, expected.replace("'", "").split(", "))
        return f"{shown}.name: unknown plug-in {tag!r}{hint}; known: {expected}"
    if problem["type"] == "union_tag_not_found":
        models = _models(owner.model_fields[path[-1]].annotation) if owner else []
        return f"{shown}.name: missing; one of {', '.join(model.model_fields['name'].default for model in models)}"
    # An address may hold a key in its query.
    simple = (
        problem["type"] != "missing" and not isinstance(problem["input"], dict) and "://" not in str(problem["input"])
    )
    given = f" (given {problem['input']!r})" if simple else ""
    return f"{shown}: {problem['msg'].removeprefix('Value error, ')}{given}"


def _owner(cls: type[Config], location: tuple[Any, ...]) -> tuple[type[BaseModel] | None, list[str]]:
    """The model that a location ends in, and the path as a user writes it (without the union's tags)."""
    owner: type[BaseModel] | None = cls
    path: list[str] = []
    candidates: list[type[BaseModel]] = []
    for step in location:
        tagged = [c for c in candidates if len(candidates) > 1 and c.model_fields["name"].default == step]
        if tagged:
            owner, candidates = tagged[0], []
            continue
        path.append(str(step))
        field = owner.model_fields.get(str(step)) if owner else None
        if field is not None:
            candidates = _models(field.annotation)
            owner = candidates[0] if len(candidates) == 1 else owner
    return owner, path


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _suggestion(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]}?" if close else ""
