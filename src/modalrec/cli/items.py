"""The commands of a trained model: `recommend` from its folder alone, and `encode-items` for items that came later."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from modalrec.artifacts.store import delivered, localized
from modalrec.cli.stages import Device, Quiet, Settings
from modalrec.config import parse_assignments, resolve
from modalrec.errors import ConfigError
from modalrec.run import Run

Model = Annotated[str, typer.Option("--model", metavar="PLACE", help="The artifact `model`; a folder or an s3:// URI.")]


def add_item_commands(app: typer.Typer) -> None:
    """Adds `recommend` and `encode-items` to the commands."""
    app.command("recommend", rich_help_panel="Use")(_recommend)
    app.command("encode-items", rich_help_panel="Use")(_encode_items)


def _recommend(
    model: Model,
    history: Annotated[
        str | None, typer.Option("--history", metavar="ITEM,ITEM", help="Ids of one user's items, oldest first.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option("--users", metavar="FILE", help="Parquet: user, and history as a list of item ids.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="With --users: the parquet file of lists to write.")
    ] = None,
    k: Annotated[int, typer.Option("--k", min=1, metavar="NUMBER", help="Length of the lists.")] = 10,
    mask_seen: Annotated[
        bool, typer.Option("--mask-seen/--with-seen", help="Leave out the items of the history, or not.")
    ] = True,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Recommend from a model's folder alone: after one history, or for a file of users.

    Example: modalrec recommend --model out/semantic_id/model --history 50,181,174 --k 10
    """
    from modalrec.stages.recommend import Server, recommend_users

    if (history is None) == (users is None) or (users is None) != (out is None):
        raise ConfigError("recommend: give --history ITEM,ITEM, or --users FILE and --out FILE")
    run = Run("recommend", device=device, quiet=quiet)
    with localized(model) as folder:
        server = Server(folder, run.torch_device())
        if users is not None and out is not None:
            run.metrics(**recommend_users(server, users, out, k, mask_seen, run))
            return
        items = [item.strip() for item in (history or "").split(",") if item.strip()]
        if unknown := server.unknown(items):
            run.say(f"passed over, since the model does not have them: {', '.join(unknown)}")
        (found,) = server.recommend([items], k, mask_seen)
    width = max((len(one.item_id) for one in found), default=0)
    for place, one in enumerate(found, start=1):
        print(f"{place:>3}  {one.score:>9.4f}  {one.item_id:<{width}}  {one.title}")


def _encode_items(
    model: Model,
    items: Annotated[
        str,
        typer.Option(
            "--items", metavar="PLACE", help="A table of items, its folder with pictures beside it, or a dataset."
        ),
    ],
    encoded: Annotated[str, typer.Option("--encoded", metavar="PLACE", help="Output: the model with these items.")],
    settings: Settings = [],  # noqa: B006 -- typer copies it
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Give new items vectors and codes from a model's folder, so that it recommends them without being trained again.

    Example: modalrec encode-items --model out/model --items new.csv --encoded out/model_today
    """
    from modalrec.stages.encode_items import Config, encode_items
    from modalrec.stages.tracking import recorded

    config = resolve(Config, parse_assignments(settings), where="encode-items")
    run = Run("encode_items", device=device, quiet=quiet)
    with ExitStack() as stack:
        target = stack.enter_context(delivered(encoded))
        folder, new = (stack.enter_context(localized(place)) for place in (model, items))
        metrics = recorded(lambda: encode_items(folder, new, target, config=config, run=run), "model", target, run)
    run.metrics(**metrics)
