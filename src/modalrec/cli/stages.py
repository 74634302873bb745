"""One command per stage, made from the stage's edges: its options cannot differ from its arguments."""

import inspect
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from modalrec.artifacts.files import write_json
from modalrec.artifacts.store import delivered, localized, remove
from modalrec.config import Config, load_file, load_preset, parse_assignments, resolve
from modalrec.errors import ConfigError
from modalrec.run import Run, place_in_team
from modalrec.stages import EDGES, STAGES, StageSpec, load_stage
from modalrec.stages.tracking import tracked

Preset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Settings to start from; `modalrec presets` lists them.")
]
ConfigFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="YAML or JSON file of settings, over those of the preset.")
]
Settings = Annotated[
    list[str],
    typer.Option("--set", metavar="FIELD=VALUE", help="One setting over all others, such as a.b=1; repeatable."),
]
Seed = Annotated[int, typer.Option(min=0, metavar="NUMBER", help="All random draws derive from it.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N; auto prefers a GPU.")]
Checkpoints = Annotated[
    str | None,
    typer.Option(
        metavar="PLACE",
        help="Folder or s3:// URI for checkpoints; an interrupted stage goes on from them. "
        "By default beside the output, and removed when that is complete.",
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Read pickled DataFrames of sessions, as data alone: the source `sessions` with allow_pickle=true.",
    ),
]
MetricsFile = Annotated[
    Path | None, typer.Option("--metrics", metavar="FILE", help="Also write the metrics to this file, as JSON.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no metrics.")]

COMMON: dict[str, tuple[Any, Any]] = {
    "preset": (Preset, None),
    "config": (ConfigFile, None),
    "set": (Settings, []),
    "seed": (Seed, 0),
    "device": (Device, "auto"),
    "checkpoints": (Checkpoints, None),
    "metrics": (MetricsFile, None),
    "quiet": (Quiet, False),
}
"""From the name of an option that every stage has to its type and default."""

OWN: dict[str, dict[str, tuple[Any, Any]]] = {"ingest": {"allow_pickle": (AllowPickle, False)}}
"""From a stage to the options that it alone has."""

PICKLED = {"source": {"name": "sessions", "allow_pickle": True}}
"""What `--allow-pickle` sets: no other source reads pickles."""


def add_stage_commands(app: typer.Typer) -> None:
    """Adds the stages, in order, to the commands."""
    for name, spec in STAGES.items():
        app.command(name, help=_help(name, spec), rich_help_panel="Stages")(_command(name, spec))


def resolve_config(
    stage: str, preset: str | None, config: str | None, assignments: list[str], allow_pickle: bool = False
) -> Config:
    """A stage's configuration from the three places where a command takes settings, later ones winning."""
    _, config_class = load_stage(stage)
    layers: list[dict[str, Any]] = [PICKLED] if allow_pickle else []
    layers += [load_preset(preset).get(stage) or {}] if preset else []
    if config:
        layers.append(load_file(Path(config)))
    resolved = resolve(config_class, *layers, parse_assignments(assignments), where=stage)
    source = getattr(resolved, "source", None)
    if allow_pickle and not getattr(source, "allow_pickle", False):
        name = getattr(source, "name", None)
        raise ConfigError(f"--allow-pickle: the source is {name} here, and only sessions reads pickles; leave it out")
    return resolved


def run_stage(name: str, options: dict[str, Any]) -> None:
    """Runs a stage with a command's options: edges, those of `COMMON`, and its own."""
    spec = STAGES[name]
    given = (options["preset"], options["config"], options["set"])
    config = resolve_config(name, *given, allow_pickle=options.get("allow_pickle", False))
    _check_device(options["device"])
    output = options[spec.outputs[0]].rstrip("/")
    checkpoints = options["checkpoints"] or f"{output}.checkpoints"
    follows = place_in_team()[0] > 0  # of the processes of a `torchrun` the first one writes and tells
    quiet = options["quiet"] or follows
    run = Run(name, seed=options["seed"], device=options["device"], checkpoints=checkpoints, quiet=quiet)
    with ExitStack() as stack:
        # Outputs first: a place that is taken shall be found before anything is downloaded.
        if follows:
            nowhere = Path(stack.enter_context(TemporaryDirectory(prefix="modalrec-")))
            folders = {edge: nowhere / edge for edge in spec.outputs}
        else:
            folders = {edge: stack.enter_context(delivered(options[edge])) for edge in spec.outputs}
        edges = {edge: options[edge] for edge in (*spec.inputs, *spec.optional) if options[edge]}
        folders |= {edge: stack.enter_context(localized(place)) for edge, place in edges.items()}
        metrics = tracked(name, folders, config, run)
    if follows:
        return
    if not options["checkpoints"]:
        remove(checkpoints)
    if options["metrics"]:
        write_json(options["metrics"], metrics)
    run.metrics(**metrics)


def _command(name: str, spec: StageSpec) -> Any:
    def command(**options: Any) -> None:
        run_stage(name, options)

    parameters = [_edge(edge, "Input") for edge in spec.inputs]
    parameters += [_edge(edge, "Optional input", optional=True) for edge in spec.optional]
    parameters += [_edge(edge, "Output") for edge in spec.outputs]
    for option, (annotation, default) in (OWN.get(name, {}) | COMMON).items():
        parameters.append(_parameter(option, annotation, default))
    # typer reads signatures; this one is written from the stage's edges.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _edge(edge: str, role: str, optional: bool = False) -> inspect.Parameter:
    what = f"the artifact `{EDGES[edge]}`" if edge in EDGES else "raw data"
    option = typer.Option(f"--{edge}", metavar="PLACE", help=f"{role}: {what}; a folder or an s3:// URI.")
    kind, default = (str | None, None) if optional else (str, inspect.Parameter.empty)
    return _parameter(edge, Annotated[kind, option], default)


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _help(name: str, spec: StageSpec) -> str:
    edges = " ".join(f"--{edge} {edge.upper()}" for edge in (*spec.inputs, *spec.optional, *spec.outputs))
    return (
        f"{spec.summary}\n\nExample: modalrec {name} {edges} --preset laptop\n\n"
        f"`modalrec config {name}` prints every setting with its meaning and default."
    )


def _check_device(device: str) -> None:
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if not kind or (kind == "cuda" and not torch.cuda.is_available()):
        state = "this machine has no usable GPU" if kind else "no such device"
        raise ConfigError(f"--device {device}: {state}; use auto or cpu")
