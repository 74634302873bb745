"""The summary of a run: a page for the Kubeflow UI that is there also where a step failed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modalrec.artifacts import code_version

ESCAPED = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#"})


def write_summary(path: str, recipe: str, asked: Mapping[str, Any], status: Mapping[str, Any]) -> None:
    """Writes the summary of a run, as Markdown.

    Args:
        path: The file.
        recipe: Name of the recipe.
        asked: From parameter to value.
        status: How the steps ended: `state`, `pipeline_job_resource_name`, `error_code`, `error_message`.
    """
    lines = [f"# {_plain(recipe)}: {_plain(status.get('state') or 'unknown')}", "", "| | |", "|---|---|"]
    rows = {"run": status.get("pipeline_job_resource_name"), **asked, "code": code_version()}
    lines += [f"| {_plain(name)} | {_plain(_text(value))} |" for name, value in rows.items()]
    if status.get("error_message"):
        lines += ["", f"Error {status.get('error_code')}: {_plain(status['error_message'])}"]
    lines += ["", "What each step said is in its log; a step that is started again goes on from its checkpoints.", ""]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("\n".join(lines), encoding="utf-8")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _plain(text: Any) -> str:
    """On one line, and nothing in it means anything to Markdown."""
    return " ".join(str(text).split()).translate(ESCAPED)
