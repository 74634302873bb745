"""A report in short, as Markdown: what Kubeflow shows beside the page."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from modalrec.artifacts.manifest import REPORT, SUMMARY
from modalrec.evaluation.report.text import harmless

Row = tuple[str, Sequence[str]]


class Report(NamedTuple):
    """A report in both forms."""

    page: str
    summary: str

    def write(self, folder: Path) -> None:
        """Writes `report.html` and `summary.md`."""
        (folder / REPORT).write_text(harmless(self.page), encoding="utf-8")
        (folder / SUMMARY).write_text(harmless(self.summary), encoding="utf-8")


def summary(
    title: str,
    verdict: str,
    warnings: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Row],
    remarks: Sequence[str],
) -> str:
    """Title, verdict, what a reader must know first, the table, and what the numbers say.

    Args:
        title: Of the report.
        verdict: Its first sentence.
        warnings: What must be known before the numbers are believed.
        columns: Of the table.
        rows: Names with their values.
        remarks: What the numbers say.
    """
    lines = [f"# {_text(title)}", "", _text(verdict)]
    lines += [f"\n> {_text(warning)}" for warning in warnings]
    lines += ["", f"| | {' | '.join(map(_text, columns))} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {_text(name)} | {' | '.join(map(_text, values))} |" for name, values in rows]
    lines += ["", *(f"- {_text(remark)}" for remark in remarks)] if remarks else []
    return "\n".join(lines) + "\n"


def _text(words: str) -> str:
    """Plain words: nothing in them is markup."""
    marked = html.escape(" ".join(words.split()), quote=False)
    for sign in "\\`*_[]|#":
        marked = marked.replace(sign, f"\\{sign}")
    return marked
