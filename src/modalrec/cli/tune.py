"""The command `tune`: an Experiment of Katib, run by Optuna here or by Katib on a cluster."""

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modalrec.artifacts.store import remove
from modalrec.cli.stages import COMMON, Quiet, Seed, run_stage
from modalrec.config import load_file
from modalrec.errors import ConfigError, TrainingError
from modalrec.run import Run
from modalrec.stages import ABOUT_ITEMS

if TYPE_CHECKING:
    from modalrec.tuning.experiment import Experiment

INPUTS = ("dataset", *ABOUT_ITEMS, "codebook", "pretrained")
"""The edges that a trial may read."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="An Experiment, such as manifests/katib/sasrec.yaml.")]
Out = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where study, logs, results and report go; a search in there is gone on with."),
]
Trials = Annotated[int | None, typer.Option(min=1, metavar="NUMBER", help="Completed trials; by default the file's.")]
Parallel = Annotated[
    int | None,
    typer.Option(min=1, metavar="NUMBER", help="Trials at a time; by default the file's, here at most one a CPU."),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A setting of every trial over its own; repeatable.")
]
Engine = Annotated[Literal["optuna", "katib"], typer.Option(help="optuna runs it here, katib on a cluster.")]
Namespace = Annotated[str, typer.Option(metavar="NAME", help="Where katib runs it.")]
Image = Annotated[str, typer.Option(metavar="NAME", help="The trials' image, for katib; by default the file's.")]
Cutoffs = Annotated[
    str,
    typer.Option(
        "--evaluate",
        metavar="NUMBERS",
        help="Then train the best parameters once more and rank the test part, at these list lengths: 1,5,10,20.",
    ),
]
Final = Annotated[
    list[str],
    typer.Option("--final", metavar="FIELD=VALUE", help="A setting of that last training alone; repeatable."),
]

OPTIONS: dict[str, tuple[Any, Any]] = {
    "set": (Settings, []),
    "trials": (Trials, None),
    "parallel": (Parallel, None),
    "seed": (Seed, 0),
    "evaluate": (Cutoffs, ""),
    "final": (Final, []),
    "engine": (Engine, "optuna"),
    "namespace": (Namespace, "kubeflow"),
    "image": (Image, ""),
    "quiet": (Quiet, False),
}
HELP = """Search a model's settings: a Katib Experiment, with Optuna on this machine or with Katib on a cluster.

Every trial is the command of the Experiment's trial template. DIR gets best.yaml (for `modalrec finetune --config`),
results.json and report.html; the same command goes on where one was interrupted.

Example: modalrec tune manifests/katib/gru4rec-bpr-max-constrained.yaml --dataset out/dataset --out out/tuned"""


def add_tune_commands(app: typer.Typer) -> None:
    """Adds `tune` and `gru4rec-experiment` to the commands."""
    app.command("tune", help=HELP, rich_help_panel="Tuning")(_tune_command())
    app.command("gru4rec-experiment", rich_help_panel="Tuning")(_gru4rec_experiment)


def _tune_command() -> Any:
    def command(file: Path, out: Path, **options: Any) -> None:
        _tune(file, out, options)

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("file", kind, annotation=File), inspect.Parameter("out", kind, annotation=Out)]
    for edge in INPUTS:
        option = typer.Option(f"--{edge}", metavar="PLACE", help=f"The trials' `{edge}`: a folder or an s3:// URI.")
        parameters.append(inspect.Parameter(edge, kind, annotation=Annotated[str | None, option], default=None))
    for name, (annotation, default) in OPTIONS.items():
        parameters.append(inspect.Parameter(name, kind, annotation=annotation, default=default))
    # typer reads signatures; this one names the edges.
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _tune(file: Path, out: Path, options: Mapping[str, Any]) -> None:
    from modalrec.tuning.experiment import load_experiment
    from modalrec.tuning.report import write_report
    from modalrec.tuning.results import rows, write_results
    from modalrec.tuning.tracking import tracked

    def tell(listed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        write_report(out, experiment, listed, run)
        return write_results(out, experiment, listed, options["set"])

    experiment = load_experiment(file)
    run = Run("tune", seed=options["seed"], quiet=options["quiet"])
    places = {edge: options[edge] for edge in INPUTS if options[edge]}
    if options["evaluate"]:
        _cutoffs(options["evaluate"])
    if options["engine"] == "katib":
        from modalrec.tuning.katib import Cluster, on_cluster

        chosen = {name: options[name] for name in ("image", "trials", "parallel")}
        document = on_cluster(experiment, places=places, assignments=options["set"], **chosen)
        listed = tracked(experiment, lambda: Cluster(options["namespace"]).run(document, run), run)
    else:
        from modalrec.tuning.search import Search, open_study

        parallel = options["parallel"] or min(experiment.parallel, len(os.sched_getaffinity(0)))
        search = Search(experiment, out, places, options["set"], options["trials"], parallel, options["seed"])
        search.check()
        try:
            listed = tracked(experiment, lambda: rows(search.run(run)), run)
        except TrainingError:  # too many have failed; the others have not
            tell(rows(open_study(search)))
            raise
    best = tell(listed)
    if best is None:
        raise TrainingError(f"{file}: no trial has succeeded; {out / 'results.json'} has their errors")
    run.say(f"best of {len(listed)}: trial {best['trial']}; see {out / 'best.yaml'} and {out / 'report.html'}")
    run.metrics(**{experiment.objective.metric: best["value"]})
    if options["evaluate"]:
        _evaluate(experiment, out, best, places, options)


def _evaluate(
    experiment: "Experiment", out: Path, best: Mapping[str, Any], places: Mapping[str, str], options: Mapping[str, Any]
) -> None:
    """Trains the best parameters and measures the model at several list lengths, in `final/`."""
    from modalrec.stages import STAGES
    from modalrec.tuning.final import evaluate_settings, training_settings

    stage = experiment.template.command(best["parameters"], "final").stage
    if stage != "finetune":
        raise ConfigError(f"--evaluate: measures what finetune makes, and the trials run {stage}; leave it out")
    settings = load_file(out / "best.yaml")
    extra = training_settings(settings, options["final"], best)
    common = {name: default for name, (_, default) in COMMON.items()} | {
        "seed": options["seed"],
        "quiet": options["quiet"],
    }
    folder = out / "final"
    model, evaluation = str(folder / "model"), str(folder / "evaluation")
    for place in (model, evaluation):  # checkpoints stay: one that was interrupted goes on
        remove(place)
    inputs = {name: dict.fromkeys((*STAGES[name].inputs, *STAGES[name].optional)) for name in ("finetune", "evaluate")}
    given = {name: {edge: places.get(edge) for edge in edges} for name, edges in inputs.items()}
    run_stage(
        "finetune",
        {**common, **given["finetune"], "model": model, "config": str(out / "best.yaml"), "set": extra},
    )
    extra = evaluate_settings(settings, options["final"], _cutoffs(options["evaluate"]))
    run_stage("evaluate", {**common, **given["evaluate"], "model": model, "evaluation": evaluation, "set": extra})


def _cutoffs(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--evaluate {text!r}: write list lengths with commas, such as 1,5,10,20") from None


def _gru4rec_experiment(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A parameter space: a JSON object a line.")],
    name: Annotated[str, typer.Option(metavar="NAME", help="The Experiment's name.")] = "gru4rec",
    fixed: Annotated[
        str, typer.Option("--fixed", metavar="PARAMETERS", help="Parameters that stay, as `-fp` of paropt.py has them.")
    ] = "",
    trials: Annotated[int, typer.Option(min=1, metavar="NUMBER", help="Completed trials that end the search.")] = 100,
    dataset: Annotated[str, typer.Option(metavar="PLACE", help="Address of the dataset on the cluster.")] = "",
) -> None:
    """Turn a parameter space of the authors' GRU4Rec (paropt.py) into an Experiment, as YAML.

    Example: modalrec gru4rec-experiment gru4rec_xe_standard_parspace.json --fixed loss=cross-entropy,logq=1.0
    """
    from modalrec.tuning.build import experiment_yaml
    from modalrec.tuning.experiment import read_experiment
    from modalrec.tuning.parameter_space import space_experiment

    document = space_experiment(file, name, fixed, dataset, trials)
    read_experiment(document, str(file))
    print(experiment_yaml(document, f"{file.name}, with fixed parameters: {fixed or 'none'}."), end="")
