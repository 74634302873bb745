"""A value that must go through an API's types without losing anything.

Kubernetes drops fields that it does not know, and a trial then runs with other settings than its file says. The models
here, generated from the API's description, drop them too: what comes out is compared with what went in.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def through(model: Any, given: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Reads a value with a generated model.

    Args:
        model: A class with `from_dict`, whose objects have `to_json`.
        given: Plain values, as from YAML.

    Returns:
        The object, or None where it cannot be read, and every problem as `field: what is wrong`.
    """
    try:
        plain = json.loads(json.dumps(given))
        read = model.from_dict(plain)
        told = json.loads(read.to_json())
    except ValidationError as error:
        kind = error.title.removeprefix("V1beta1").removeprefix("IoK8sApiCoreV1")
        places = [(".".join(map(str, each["loc"])), each) for each in error.errors()]
        return None, [f"{kind}.{place}: {each['msg']} (given {each['input']!r})" for place, each in places]
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        return None, [f"not as the API describes it ({error})"]
    unknown = "unknown to the API; look for a misspelling or a wrong indentation"
    return read, [f"{place}: {unknown}" for place in _lost(plain, told, "")]


def _lost(before: Any, after: Any, place: str) -> list[str]:
    """Where a value differs after it went through, as dotted paths; a null says nothing."""
    if isinstance(before, dict) and isinstance(after, dict):
        inner = [(f"{place}.{key}" if place else key, key) for key in before if before[key] is not None]
        return [each for name, key in inner for each in _lost(before[key], after.get(key), name)]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [each for n, (one, other) in pairs for each in _lost(one, other, f"{place}[{n}]")]
    return [] if before == after else [place]
