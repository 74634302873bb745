"""The commands that fetch: `download` for public data sets, `download-images` for pictures by a list of addresses."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from modalrec.cli.stages import Quiet, Settings
from modalrec.config import parse_assignments, resolve
from modalrec.errors import ConfigError, UpstreamError
from modalrec.run import Run

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the files go.")]


def add_download_commands(app: typer.Typer) -> None:
    """Adds `download` and `download-images` to the commands."""
    app.command("download", rich_help_panel="Use")(_download)
    app.command("download-images", rich_help_panel="Use")(_download_images)


def _download(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The data set; none lists them.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where the files go; by default out/data/NAME.")
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="Of a set that comes in categories, such as Baby.")
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept-licence", help="The licence has been read and is accepted; asks nothing.")
    ] = False,
    settings: Settings = [],  # noqa: B006 -- typer copies it
    quiet: Quiet = False,
) -> None:
    """Fetch a public data set, its licence first; a second run goes on where the first was stopped.

    Example: modalrec download amazon-2018 --category Musical_Instruments
    """
    from modalrec.data.fetch import FetchConfig, Fetcher
    from modalrec.data.public_sets import find_set, public_sets

    if name is None:
        for key, one in public_sets().items():
            print(f"{key:18} {one.title}{' (by hand)' if one.manual else ''}")
        return
    found = find_set(name)
    files = found.files_of(category, name)
    folder = out or Path("out", "data", f"{name}-{category}" if category else name)
    config = resolve(FetchConfig, parse_assignments(settings), where="download")
    print(f"{found.title}\n{found.page}\nLicence: {found.licence}", file=sys.stderr)
    if found.manual:
        raise UpstreamError(f"{name}: a program may not fetch it. {found.manual}. Put the files into {folder}")
    _agree(accept)
    run = Run("download", quiet=quiet)
    fetcher = Fetcher(config, run)
    for file in files:
        fetched = fetcher.fetch(file, folder)
        checked = "its checksum is right" if file.md5 else "its publisher gives no checksum"
        run.say(f"{folder / file.name}: {'fetched' if fetched else 'was there'}, {checked}")
    if found.unpack:
        run.say(f"next: cd {folder} && {found.unpack}")
    run.say(f"next: modalrec ingest --source {folder} --dataset out/dataset {found.ingest}".rstrip())


def _agree(accepted: bool) -> None:
    if accepted:
        return
    if not sys.stdin.isatty():
        raise ConfigError("download: read the licence above and its page; who accepts it adds --accept-licence")
    if not typer.confirm("Do you accept it?", default=False, err=True):
        raise ConfigError("download: the licence was not accepted; nothing was fetched")


def _download_images(
    urls: Annotated[Path, typer.Option("--urls", metavar="FILE", help="CSV or parquet: item_id, url.")],
    out: Out,
    settings: Settings = [],  # noqa: B006 -- typer copies it
    quiet: Quiet = False,
) -> None:
    """Fetch items' pictures by a list of addresses: few at a time of each host, and going on where it stopped.

    The folder is what `ingest` takes as `images/` beside a table of items. Whose pictures they are, and whether they
    may be fetched and kept, is for you to know.

    Example: modalrec download-images --urls pictures.csv --out my-folder/images
    """
    from modalrec.data.picture_list import PictureListConfig, fetch_pictures

    config = resolve(PictureListConfig, parse_assignments(settings), where="download-images")
    run = Run("download-images", quiet=quiet)
    run.metrics(**fetch_pictures(urls, out, config, run))
