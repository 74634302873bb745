"""Resources that are not Kubernetes' own, against their definitions, recorded as `tests/reference/README.md` says."""

import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator

from tests.manifests.rendering import ROOT

DEFINED: dict[str, Any] = json.loads((ROOT / "tests" / "reference" / "custom_resources.json").read_bytes())
"""From a kind to the schema of its `spec`; of a predictor of KServe what it has besides the fields of a pod."""


def problems(kind: str, spec: dict[str, Any]) -> Iterator[str]:
    """What a cluster would refuse."""
    for error in Draft202012Validator(DEFINED[kind]).iter_errors(spec):
        yield f"{kind}: {error.json_path}: {error.message[:200]}"
