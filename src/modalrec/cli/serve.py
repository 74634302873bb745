"""The command `serve`: a model's recommendations over HTTP."""

import importlib.util
import re
from typing import Annotated

import typer

from modalrec.artifacts.store import localized
from modalrec.cli.items import Model
from modalrec.cli.stages import Device, Quiet, Settings
from modalrec.config import parse_assignments, resolve
from modalrec.errors import ConfigError, UpstreamError
from modalrec.run import Run

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def add_serve_command(app: typer.Typer) -> None:
    """Adds `serve` to the commands."""
    app.command("serve", rich_help_panel="Use")(_serve)


def _serve(
    model: Model,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen at; 0.0.0.0 is all.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, metavar="NUMBER", help="The port.")] = 8080,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The model's name in addresses: /v1/models/NAME:predict.")
    ] = "modalrec",
    settings: Settings = [],  # noqa: B006 -- typer copies it
    access_log: Annotated[bool, typer.Option("--access-log", help="Print a line a request.")] = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Answer over HTTP what `recommend` answers, from a model's folder alone; requests that meet share a batch.

    POST /recommend {"history": ["50", "181"], "k": 10}; GET /openapi.json, /health/ready, /metrics. Limits are
    settings: max_k, max_history, max_instances, max_body_bytes, max_batch, max_waiting, wait_milliseconds, max_seconds,
    drain_seconds.

    Example: modalrec serve --model out/semantic_id/model --set max_k=50
    """
    if lacking := [package for package in NEEDED if importlib.util.find_spec(package) is None]:
        raise UpstreamError(f"serve: {', '.join(lacking)} is not installed; pip install 'modalrec[serve]'")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(f"--name {name!r}: give letters, digits, '.', '_' and '-', a letter or digit first")
    from modalrec.serving.config import ServeConfig
    from modalrec.serving.server import serve
    from modalrec.stages.recommend import Server

    config = resolve(ServeConfig, parse_assignments(settings), where="serve")
    run = Run("serve", device=device, quiet=quiet)
    with localized(model) as folder:
        server = Server(folder, run.torch_device())
    run.say(f"{server.model.config.name}, {len(server.model.items):,} items, at http://{host}:{port}")
    serve(server, host, port, name, config, access_log=access_log)
