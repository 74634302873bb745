"""A report in short, as Markdown: what Kubeflow shows beside the page."""

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

Row = tuple[str, Sequence[str]]


class Report(NamedTuple):
    """A report in both forms."""

    page: str
    summary: str

    def write(self, folder: Path) -> None:
        """Writes `report.html` and `summary.md`."""
        (folder / "report.html").write_text(self.page, encoding="utf-8")
        (folder / "summary.md").write_text(self.summary, encoding="utf-8")


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
    return "\n".join(_lines(title, verdict, warnings, columns, rows, remarks)) + "\n"


def _lines(
    title: str,
    verdict: str,
    warnings: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Row],
    remarks: Sequence[str],
) -> Iterator[str]:
    yield f"# {_text(title)}"
    yield ""
    yield _text(verdict)
    for warning in warnings:
        yield f"\n> {_text(warning)}"
    yield ""
    yield f"| | {' | '.join(map(_text, columns))} |"
    yield "|---" * (len(columns) + 1) + "|"
    for name, values in rows:
        yield f"| {_text(name)} | {' | '.join(map(_text, values))} |"
    if remarks:
        yield ""
    for remark in remarks:
        yield f"- {_text(remark)}"


def _text(words: str) -> str:
    """Plain words: nothing in them is markup."""
    marked = html.escape(" ".join(words.split()), quote=False)
    for sign in "\\`*_[]|#":
        marked = marked.replace(sign, f"\\{sign}")
    return marked
