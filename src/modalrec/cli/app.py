"""The commands and what happens to errors. Stages are imported when one is called, so that `--help` answers at once."""

import json
import signal
import sys
from dataclasses import asdict
from types import FrameType
from typing import Annotated, NoReturn

import typer

from modalrec.cli.compare import add_compare_command
from modalrec.cli.download import add_download_commands
from modalrec.cli.exchange import add_exchange_commands
from modalrec.cli.generate import add_generate_commands
from modalrec.cli.items import add_item_commands
from modalrec.cli.join import add_join_command
from modalrec.cli.serve import add_serve_command
from modalrec.cli.stages import ConfigFile, Preset, Settings, add_stage_commands, resolve_config
from modalrec.cli.tune import add_tune_commands
from modalrec.cli.upload import add_upload_command
from modalrec.config import PRESETS, resolve
from modalrec.errors import ConfigError, told
from modalrec.stages import STAGES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    # Both --text_embeddings, the edge's name, and --text-embeddings are understood.
    context_settings={
        "token_normalize_func": lambda token: token.replace("-", "_"),
        "help_option_names": ["-h", "--help"],
    },
    help="Multimodal recommender training, stage by stage.\n\n"
    f"The stages in order: {', '.join(STAGES)}. Each reads and writes folders, here or at s3:// URIs, and takes its "
    "settings from --preset, --config and --set. To run them all as one pipeline use `python -m pipelines run`.",
)


def main() -> None:
    """The entry point: user errors become one message and an exit code, everything else keeps its traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except Exception as error:
        known = told(error)
        if known is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        sys.exit(known.exit_code)


@app.command("config", rich_help_panel="Look")
def show_config(
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(STAGES)}.")],
    preset: Preset = None,
    config: ConfigFile = None,
    settings: Settings = [],  # noqa: B006 -- typer copies it
) -> None:
    """Print a stage's settings as YAML: every field, what it means, its value. The output can go to --config."""
    from modalrec.cli.describe import describe

    if stage not in STAGES:
        raise ConfigError(f"{stage!r}: unknown stage; the stages are {', '.join(STAGES)}")
    print(describe(resolve_config(stage, preset, config, settings)), end="")


@app.command(rich_help_panel="Look")
def show(
    artifact: Annotated[str, typer.Argument(help="Folder or s3:// URI.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Print what an artifact is, how it was made, what it cost, and what it was made from."""
    from modalrec.cli.show import read, render

    manifest = read(artifact)
    print(manifest.model_dump_json(indent=2) if as_json else render(artifact, manifest))


@app.command(rich_help_panel="Look")
def plugins() -> None:
    """List the plug-ins of each kind: what `name` can be in a stage's settings."""
    from modalrec.plugins import KINDS, discover

    for kind in KINDS:
        print(f"{kind}:")
        for name, plugin in discover(kind).items():
            summary = (plugin.__doc__ or "").strip().partition("\n")[0]
            print(f"  {name:20} {summary}")


@app.command("schemas", rich_help_panel="Look")
def show_schemas() -> None:
    """Print what every kind of artifact holds, file by file and column by column, as Markdown."""
    from modalrec.cli.schemas import page

    print(page(), end="")


@app.command(rich_help_panel="Look")
def presets() -> None:
    """List the presets and what they are for."""
    for path in sorted(PRESETS.glob("*.yaml")):
        print(f"{path.stem:20} {path.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}")


@app.command("gru4rec-parameters", rich_help_panel="Look")
def gru4rec_parameters(
    given: Annotated[str, typer.Argument(metavar="PARAMETERS", help="name=value,... or a parameter file (.py).")],
) -> None:
    """Turn parameters of the authors' GRU4Rec into settings of finetune, as YAML. The output can go to --config."""
    import yaml

    from modalrec.recommenders._gru4rec_parameters import finetune_settings
    from modalrec.stages.train import TrainConfig

    settings = finetune_settings(given)
    resolve(TrainConfig, settings, where="finetune")
    print(yaml.safe_dump(settings, sort_keys=False), end="")


@app.command(rich_help_panel="Look")
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False) -> None:
    """Check what is installed and reachable here, and say how to get what is missing.

    The exit code is 1 where something is `missing`; what is `off` only some runs need.
    """
    from modalrec.doctor import examine, render

    checks = examine()
    print(json.dumps([asdict(check) for check in checks], indent=2) if as_json else render(checks))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


add_stage_commands(app)
add_item_commands(app)
add_serve_command(app)
add_exchange_commands(app)
add_upload_command(app)
add_download_commands(app)
add_join_command(app)
add_compare_command(app)
add_generate_commands(app)
add_tune_commands(app)
