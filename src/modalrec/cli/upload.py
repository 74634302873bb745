"""The command `upload`: raw files from here into a bucket, where the steps of a cluster find them."""

from pathlib import Path
from typing import Annotated

import typer

from modalrec.artifacts.store import Store
from modalrec.errors import ConfigError, DataError
from modalrec.run import Run


def add_upload_command(app: typer.Typer) -> None:
    """Adds `upload` to the commands."""
    app.command("upload", rich_help_panel="Use")(_upload)


def _upload(
    folder: Annotated[Path, typer.Argument(help="Folder with the raw files.")],
    place: Annotated[str, typer.Argument(metavar="S3_URI", help="s3://bucket/path; the bucket is made where missing.")],
) -> None:
    """Put a folder of raw files into a bucket; the address is then a pipeline's `source`.

    The store's address and keys come from AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.

    Example: modalrec upload films s3://mlpipeline/raw/films-2026-11
    """
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        raise DataError(f"{folder}: no folder with files; give the folder that holds the data")
    store = Store.from_env()
    store.ensure_bucket(place)
    if there := store.names(place):
        raise ConfigError(
            f"{place}: holds {len(there)} files already (first: {there[0]}); Kubeflow's cache knows a source by its "
            "address, so give other files another one"
        )
    store.put_folder(folder, place)
    Run("upload").say(f"{len(store.names(place))} files in {place}")
