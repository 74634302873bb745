"""`python -m pipelines`: compile, run and submit recipes."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from modalrec.config import parse_assignments
from modalrec.errors import ConfigError, ModalrecError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Registry = Annotated[str, typer.Option(help="Registry and path of the images, such as registry.example.org/modalrec.")]
Tag = Annotated[str, typer.Option(help="Tag of the images; the release by default. Tags must never move.")]


@app.command("compile")
def compile_(
    recipe: Annotated[str | None, typer.Argument(help="The recipe; all by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the files; pipelines/compiled by default.")] = None,
    namespace: Annotated[
        str, typer.Option(help="Also write the resources Pipeline and PipelineVersion, for this namespace.")
    ] = "",
    registry: Registry = "",
    tag: Tag = "",
) -> None:
    """Write recipes as files that Kubeflow takes, validated, the same on every machine."""
    _use_images(registry, tag)
    from pipelines.runner import recipes
    from pipelines.runner.compile import COMPILED, compile_recipe, compile_resources

    for name in [recipe] if recipe else recipes.names():
        print(compile_recipe(name, out or COMPILED))
        if namespace:
            print(compile_resources(name, out or COMPILED, namespace))


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="The recipe.")],
    data: Annotated[str, typer.Option(help="Folder with the raw files, or an s3:// URI.")],
    parameters: Annotated[list[str] | None, typer.Argument(help="More of the recipe's, as name=value.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="Settings to start from, see `modalrec presets`; the recipe's for a laptop.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="stage.field=value over the preset; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0,
    controls: Annotated[bool, typer.Option(help="Also train the control runs.")] = True,
    cache: Annotated[bool, typer.Option(help="Take results of earlier runs from the store.")] = True,
    containers: Annotated[
        bool, typer.Option("--containers", help="Run each stage in its image, by docker or podman (DOCKER_HOST).")
    ] = False,
    registry: Registry = "",
    tag: Tag = "",
    out: Annotated[Path, typer.Option(help="Where results and the store go.")] = Path("out"),
) -> None:
    """Run a recipe on this machine: every artifact goes through a store of its own."""
    _use_images(registry, tag)
    from pipelines.runner import recipes
    from pipelines.runner.local import LocalRun

    given = parse_assignments(settings or [])
    module = recipes.load(recipes.searching(recipe, given))
    arguments = {
        "source": data,
        "preset": preset or module.LAPTOP_PRESET,
        "settings": given,
        "seed": seed,
        **({"controls": controls} if "controls" in module.pipeline.component_spec.inputs else {}),
        **dict(_parameter(text) for text in parameters or []),
    }
    recipes.check_arguments(module.pipeline, arguments)
    module.check(arguments)
    LocalRun(recipe, module.pipeline, arguments, out, cache, containers=containers).run()


@app.command()
def submit(
    recipe: Annotated[str, typer.Argument(help="The recipe.")],
    endpoint: Annotated[str, typer.Option(help="Address of the Kubeflow Pipelines API or UI.")],
    parameters: Annotated[list[str] | None, typer.Argument(help="name=value; values are YAML.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment that the run belongs to.")] = "modalrec",
    name: Annotated[str | None, typer.Option(help="Name of the run; the recipe's by default.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of the run, where Kubeflow has profiles.")] = None,
    service_account: Annotated[str | None, typer.Option(help="Account of the run's pods.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for an answer.")] = 30,
    registry: Registry = "",
    tag: Tag = "",
) -> None:
    """Compile a recipe and start it on a cluster; a token is read from the variable KFP_TOKEN."""
    _use_images(registry, tag)
    from pipelines.runner import recipes
    from pipelines.runner.submit import Server

    arguments = dict(_parameter(text) for text in parameters or [])
    chosen = recipes.searching(recipe, arguments.get("settings") or {})
    server = Server(endpoint, namespace, service_account, timeout)
    identity = server.submit(chosen, arguments, experiment=experiment, run_name=name or recipe)
    print(f"{endpoint.rstrip('/')}/#/runs/details/{identity}")


def main() -> None:
    """Runs a command; an error of the user's is one message and an exit code, no traceback."""
    try:
        app()
    except ModalrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _use_images(registry: str, tag: str) -> None:
    # Before the components are imported: their images are part of them.
    for variable, value in (("MODALREC_REGISTRY", registry), ("MODALREC_TAG", tag)):
        if value:
            os.environ[variable] = value


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r}: write a parameter as name=value")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"{text!r}: the value is not YAML ({error}); quote it") from None


if __name__ == "__main__":
    main()
