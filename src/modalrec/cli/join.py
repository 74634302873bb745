"""The command `join`: embeddings that several machines made, each of a part of the items, become one."""

from contextlib import ExitStack
from typing import Annotated

import typer

from modalrec.artifacts.store import delivered, localized
from modalrec.cli.stages import Quiet
from modalrec.run import Run


def add_join_command(app: typer.Typer) -> None:
    """Adds `join` to the commands."""
    app.command("join", rich_help_panel="Stages")(_join)


def _join(
    parts: Annotated[list[str], typer.Argument(metavar="PART", help="All parts, in any order; folders or s3:// URIs.")],
    embeddings: Annotated[str, typer.Option("--embeddings", metavar="PLACE", help="Where the whole goes.")],
    quiet: Quiet = False,
) -> None:
    """Join embeddings that were made in parts: `embed_text --set part=0 --set parts=4`, and so on.

    Example: modalrec join out/texts-0 out/texts-1 --embeddings out/text_embeddings
    """
    from modalrec.stages.join import join
    from modalrec.stages.tracking import recorded

    run = Run("join", quiet=quiet)
    with ExitStack() as stack:
        whole = stack.enter_context(delivered(embeddings))
        folders = [stack.enter_context(localized(part)) for part in parts]
        numbers = recorded(lambda: join(folders, whole, run=run), "embeddings", whole, run)
    run.metrics(**numbers)
