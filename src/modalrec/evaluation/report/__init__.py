"""The report: one self-contained HTML file per evaluation, which loads nothing and runs nothing.

`page.html` and `style.html` hold every page, `parts.html` what several show, the other templates what is in one; the
modules beside them compute what they show. All text from data goes through the templates' escaping; pictures are small
`data:` URIs; charts are SVG.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import BaseLoader, ChoiceLoader, Environment, PackageLoader, StrictUndefined

from modalrec.artifacts.manifest import Manifest
from modalrec.data.sequences import Sequences
from modalrec.evaluation.leakage import Leakage
from modalrec.evaluation.report import words
from modalrec.evaluation.report.codes import code_section
from modalrec.evaluation.report.curves import curve_section
from modalrec.evaluation.report.details import origin
from modalrec.evaluation.report.figure import pipeline_figure
from modalrec.evaluation.report.gallery import gallery
from modalrec.evaluation.report.leakage import leakage_checks, leaks
from modalrec.evaluation.report.neighbours import neighbour_section
from modalrec.evaluation.report.summary import Report, summary
from modalrec.evaluation.report.table import metric_table
from modalrec.evaluation.report.warmth import warmth_table
from modalrec.evaluation.results import HEADLINE, Result
from modalrec.run import Run


@dataclass(frozen=True)
class Contents:
    """What a report is made from.

    Attributes:
        run: The stage's run; random choices of the gallery and the intervals come from it.
        config: The stage's configuration as plain values.
        folders: The artifact folders by edge; `dataset` and `model` at least.
        manifests: Their manifests.
        results: The measured rows by name; `model` at least.
        sequences: The events that the headline's histories were read from.
        leakage: What training and histories know of the headline's test part.
        metrics: All numbers by full name.
        gallery_users: Users to show.
        bootstrap_samples: Resamples behind every interval.
    """

    run: Run
    config: dict[str, Any]
    folders: dict[str, Path]
    manifests: dict[str, Manifest]
    results: dict[str, Result]
    sequences: Sequences
    leakage: Leakage
    metrics: dict[str, float]
    gallery_users: int = 12
    bootstrap_samples: int = 2000


def pages(*more: BaseLoader) -> Environment:
    """The templates, and those of other reports that extend `page.html`; whatever comes from data is escaped."""
    return Environment(
        loader=ChoiceLoader([PackageLoader("modalrec.evaluation", "report"), *more]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def build_report(contents: Contents) -> Report:
    """The report as one HTML page, and in short."""
    results, manifests = contents.results, contents.manifests
    comparisons = words.compare(results, contents.run, contents.bootstrap_samples)
    checks = leakage_checks(contents.leakage, manifests["dataset"], manifests)
    title, verdict = words.title(manifests), words.verdict(results, comparisons)
    warnings = words.warnings(results) + leaks(checks)
    remarks = words.remarks(results, comparisons, contents.metrics, manifests["dataset"].statistics)
    table = metric_table(results)
    page = (
        pages()
        .get_template("template.html")
        .render(
            title=title,
            verdict=verdict,
            warnings=warnings,
            cards=words.cards(results[HEADLINE], contents.metrics),
            figure=pipeline_figure(manifests),
            table=table,
            warmth=warmth_table(results),
            cold_below=contents.config["cold_below"],
            remarks=remarks,
            curves=curve_section(contents.folders, manifests),
            codes=code_section(contents.folders, manifests),
            ties=words.TIES[results[HEADLINE].ties],
            people=results[HEADLINE].people,
            gallery=gallery(
                contents.folders["dataset"],
                results[HEADLINE],
                contents.sequences,
                contents.gallery_users,
                contents.run,
                contents.folders.get("codes"),
            ),
            neighbours=neighbour_section(contents.folders, contents.run),
            **origin(manifests["dataset"], checks, manifests, contents.config, contents.metrics, contents.run),
        )
    )
    rows = [(f"{group.name}: {row.label}", [row.value, *row.values]) for group in table.groups for row in group.rows]
    return Report(page, summary(title, verdict, warnings, [table.bar_column, *table.columns], rows, remarks))
