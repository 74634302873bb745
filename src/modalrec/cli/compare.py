"""The command `compare`: several evaluations become one table and one report."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from modalrec.artifacts.store import delivered, localized
from modalrec.cli.stages import ConfigFile, Quiet, Seed, Settings
from modalrec.run import Run


def add_compare_command(app: typer.Typer) -> None:
    """Adds `compare` to the commands."""
    app.command("compare", rich_help_panel="Stages")(_compare)


def _compare(
    evaluations: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]EVALUATION", help="Output folders of `evaluate`, here or at s3:// URIs."),
    ],
    dataset: Annotated[str, typer.Option("--dataset", metavar="PLACE", help="The dataset that all were measured on.")],
    comparison: Annotated[str, typer.Option("--comparison", metavar="PLACE", help="Where table and report go.")],
    config: ConfigFile = None,
    settings: Settings = [],  # noqa: B006 -- typer copies it
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Compare recommenders that were measured on the same targets: how sure, for whom, at what cost.

    Example: modalrec compare text=out/a both=out/b --dataset out/dataset --comparison out/comparison
    """
    from modalrec.config import load_file, parse_assignments, resolve
    from modalrec.stages.compare import Config, compare
    from modalrec.stages.tracking import recorded

    named = [_named(given) for given in evaluations]
    names = {"names": [name for name, _ in named]} if any(name for name, _ in named) else {}
    layers = [load_file(Path(config))] if config else []
    resolved = resolve(Config, *layers, names, parse_assignments(settings), where="compare")
    run = Run("compare", seed=seed, quiet=quiet)
    with ExitStack() as stack:
        output = stack.enter_context(delivered(comparison))
        data = stack.enter_context(localized(dataset))
        folders = [stack.enter_context(localized(place)) for _, place in named]
        metrics = recorded(lambda: compare(folders, data, output, config=resolved, run=run), "comparison", output, run)
    run.metrics(**metrics)


def _named(given: str) -> tuple[str, str]:
    """The name before a place, if any: a place may have an equals sign too, a name no slash."""
    name, equals, place = given.partition("=")
    return (name, place) if equals and "/" not in name else ("", given)
