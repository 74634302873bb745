"""What the trial's command would refuse, or not say: every parameter is a field, every metric is printed."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

from modalrec.artifacts.s3 import SCHEME
from modalrec.config import Config, resolve
from modalrec.errors import ConfigError
from modalrec.plugins import discover
from modalrec.stages import EDGES, STAGES, load_stage
from modalrec.stages._train_config import PREDICTED, RANKED, TrainConfig
from modalrec.tuning.template import PLACEHOLDER, UNTOUCHED, Command

if TYPE_CHECKING:
    from modalrec.tuning.experiment import Experiment

EPOCH = "best_epoch"
"""What every training prints of itself: the epoch that it kept."""

QUANTIZED = {"collisions", "nearest_collisions", "held_out_relative_reconstruction_error"}
"""What `quantize` prints whatever it trains; the last one after each epoch too."""

PLACES = {*EDGES, "checkpoints"}
"""Options that name a folder or an address."""

RATED = {"neg_rmse"}
"""What is measured of ratings, and of clicks is not."""


def check_fields(experiment: "Experiment") -> Iterator[str]:
    """What is wrong with the parameters and metrics of an experiment whose trials run a stage, one line each.

    Of another program's command nothing is known, and nothing is checked.
    """
    try:
        first = experiment.template.command(corner(experiment, 0), "trial")
        stage = first.stage
        if stage is None:
            return
        yield from _edges(first, stage)
        yield from _names(experiment)
        number = max(len(parameter.corners()) for parameter in experiment.parameters)
        commands = [experiment.template.command(corner(experiment, place), "trial") for place in range(number)]
        yield from _words(commands)
        configs = [resolve(load_stage(stage)[1], command.settings(), where=stage) for command in commands]
    except ConfigError as error:
        yield from str(error).splitlines()
        return
    yield from _metrics(experiment, stage, configs[0])


def corner(experiment: "Experiment", place: int) -> dict[str, str]:
    """Assignments of least values (0) or greatest (1), of every choice in turn."""
    corners = {parameter.name: parameter.corners() for parameter in experiment.parameters}
    return {name: texts[min(place, len(texts) - 1)] for name, texts in corners.items()}


def printed(stage: str, config: Config) -> set[str]:
    """The metrics that a stage prints and a search can go by: those of the validation part, never of the test part."""
    if stage == "quantize":
        return {*QUANTIZED, EPOCH}
    if not isinstance(config, TrainConfig):
        return set()
    names = set(get_args(PREDICTED if config.learns_from_rows else RANKED))
    if config.learns_from_rows:
        model = discover("recommenders")[config.recommender.name]
        rated = model.monitored_by(config.recommender.model_dump()) in RATED
        names = names & RATED if rated else names - RATED
    return {EPOCH, *(f"valid_{name}" for name in names)}


def _edges(command: Command, stage: str) -> Iterator[str]:
    spec = STAGES[stage]
    given = {name for name, _ in command.options()}
    for edge in (*spec.inputs, *spec.outputs):
        if edge not in given:
            yield f"command: `{stage}` needs --{edge}"


def _words(commands: Sequence[Command]) -> Iterator[str]:
    """Of folders nothing is asked: what reads them runs here, without a shell."""
    given = [(name, place) for command in commands for name, place in command.options()]
    here = {f"--{name}={place}" for name, place in given if name in PLACES and not place.startswith(SCHEME)}
    for word in dict.fromkeys(word for command in commands for word in command.words):
        if word not in here and not UNTOUCHED.fullmatch(word):
            yield (
                f"command: {word!r} would not come through Katib, which gives a shell the words with spaces between; "
                "leave out spaces, quotes and signs, and set a field at a time, as --set=a.b=1"
            )


def _names(experiment: "Experiment") -> Iterator[str]:
    """Each parameter is set under its own name, so that a result says which field it is."""
    set_by: dict[str, str] = {}
    for word in experiment.template.words():
        path, equals, value = word.removeprefix("--set=").partition("=")
        if equals:
            set_by |= dict.fromkeys(PLACEHOLDER.findall(value), path)
    for name, reference in experiment.template.references.items():
        if name in set_by and set_by[name] != reference:
            yield f"spec.parameters: {reference} sets the field {set_by[name]}; give the parameter the field's name"


def _metrics(experiment: "Experiment", stage: str, config: Any) -> Iterator[str]:
    known = printed(stage, config)
    for metric in experiment.objective.metrics:
        if metric not in known:
            yield f"spec.objective: `{stage}` prints no {metric}; it prints {', '.join(sorted(known))}"
    monitor = getattr(config, "monitor", None)
    if monitor and experiment.objective.metric in known - {f"valid_{monitor}"}:
        yield f"spec.objective: {experiment.objective.metric}, but epochs are chosen by valid_{monitor}; set both alike"
