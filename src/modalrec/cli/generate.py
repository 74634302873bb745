"""The command `generate`: made-up data of a published shape, for tests of speed and memory."""

from pathlib import Path
from typing import Annotated, Any

import typer

from modalrec.config import resolve
from modalrec.run import Run


def add_generate_commands(app: typer.Typer) -> None:
    """Adds `generate microlens` to the commands."""
    settings: dict[str, Any] = {"no_args_is_help": True, "rich_markup_mode": None}
    make = typer.Typer(**settings, help="Make up raw data of a published shape; nothing of it is real.")
    make.command("microlens")(_microlens)
    make.callback()(_only_groups)
    app.add_typer(make, name="generate", rich_help_panel="Exchange")


def _only_groups() -> None:
    """Make up raw data of a published shape; nothing of it is real."""


def _microlens(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write; it must not exist.")],
    users: Annotated[int, typer.Option("--users", metavar="NUMBER", help="Users.")] = 1_000_000,
    items: Annotated[int, typer.Option("--items", metavar="NUMBER", help="Videos, 64 or more.")] = 91_717,
    rows: Annotated[int, typer.Option("--rows", metavar="NUMBER", help="Rows of train, valid and test.")] = 3_000_000,
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="With text and image vectors of the published lengths.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Of all that is drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress.")] = False,
) -> None:
    """Make up a MicroLens_1M_MMCTR of any size: its files and columns, and nothing of its content.

    Example: modalrec generate microlens --out out/made-up --users 10000 --items 2000 --rows 30000 --no-vectors
    """
    from modalrec.data.synthetic import Shape, generate_microlens

    given: dict[str, int] = {"users": users, "items": items, "rows": rows}
    given |= {} if vectors else {"text_dimension": 0, "image_dimension": 0}
    shape = resolve(Shape, given, where="generate microlens")
    generate_microlens(out, shape, Run("generate", seed=seed, quiet=quiet))
