"""Checks the settings of all stages before the first one starts, and derives those of the control runs."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from modalrec.config import Config, dump, load_preset, nest, resolve
from modalrec.errors import ConfigError
from modalrec.fusers import TrainedFuser
from modalrec.plugins import discover
from modalrec.stages import STAGES, load_stage
from modalrec.stages._compare_config import Config as CompareConfig
from modalrec.stages._train_histories import VALIDATION_LIST
from modalrec.stages._tune_config import TuneConfig

Resolved = dict[str, Any]

TUNE, COMPARE = "tune", "compare"
FURTHER: dict[str, type[Config]] = {TUNE: TuneConfig, COMPARE: CompareConfig}
"""What a recipe that can tune, or compares, names among its stages."""
COMPARED = ("fuse", "quantize", "finetune", "evaluate")
"""The stages that every recommender of a comparison has for itself."""


def configure(
    preset: str, settings: Mapping[str, Any], controls: bool = True, stages: Sequence[str] = ()
) -> dict[str, Resolved]:
    """Resolves the configuration of every stage of a recipe and, where it pretrains, of every control run.

    Where a recipe pretrains, the control runs are `scratch` (finetune without pretraining, for as many epochs as both
    have), and pretrain and finetune once on shuffled histories and once on the temporal split; a control that is off
    has 0 epochs. Those of a model of rows are named after what it goes without, `finetune_without_popularity`
    and so on (`RowModel.ablations`).

    Args:
        preset: The preset to start from, such as laptop; a+b is two of them, b over a.
        settings: What differs from it, nested (`{"quantize": {"training": {"epochs": 5}}}`) or with dotted keys
            (`{"quantize.training.epochs": 5}`), or mixed.
        controls: Train the control runs.
        stages: The stages of the recipe; all where none are given. What a preset says of others is left out.

    Returns:
        From stage or control run to its configuration, every default written out.

    Raises:
        ConfigError: Unknown stages and fields, wrong values, and stages that contradict each other: all at once.
    """
    problems: list[str] = []
    known = {stage: load_stage(stage)[1] for stage in STAGES if stage in stages or not stages}
    known |= {stage: config for stage, config in FURTHER.items() if stage in stages}
    chosen = list(known)
    given = {
        key: value for key, value in load_preset(preset).items() if key in chosen or key not in {*STAGES, *FURTHER}
    }
    layers = _by_stage([given, settings], chosen, problems)
    resolved: dict[str, Resolved] = {}
    for stage in chosen:
        try:
            resolved[stage] = dump(resolve(known[stage], *layers[stage], where=stage))
        except ConfigError as error:
            problems += str(error).splitlines()
    if COMPARE in resolved:
        problems += _line_up(resolved, layers)
    if not problems:
        lines = resolved[COMPARE]["recommenders"] if COMPARE in resolved else {"": {}}
        for name, own in lines.items():
            contradictions = _contradictions({**resolved, **own})
            problems += [f"{name}: {problem}" if name else problem for problem in contradictions]
    if problems:
        found = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems])
        raise ConfigError(f"settings: {found}\n`modalrec config STAGE` shows what a stage takes")
    if "pretrain" in resolved:
        return resolved | _control_runs(resolved, controls)
    if COMPARE in resolved:
        # In a list of their own: what is written as JSON may have its keys in another order.
        return resolved | {COMPARE: {**resolved[COMPARE], "names": [*resolved[COMPARE]["recommenders"]]}}
    return resolved | _ablations(resolved.get("finetune", {}))


def _line_up(resolved: dict[str, Resolved], layers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Gives every recommender of a comparison the whole configuration of its own stages, and tells what is wrong.

    A recommender's settings lie over those that were given for all, and defaults under both: what nobody has given is
    the default of the recommender that it is for.
    """
    given = resolved[COMPARE]["recommenders"]
    problems = [] if given else [f"{COMPARE}.recommenders: names none; see the preset `compare`"]
    lines: dict[str, dict[str, Resolved]] = {name: {} for name in given}
    for name, own in given.items():
        where = f"{COMPARE}.recommenders.{name}"
        problems += [
            f"{where}.{stage}: shared by all; of its own a recommender has {', '.join(COMPARED)}"
            for stage in own
            if stage not in COMPARED
        ]
        for stage in (stage for stage in COMPARED if stage in resolved):
            settings = [*layers[stage], own.get(stage, {})]
            try:
                lines[name][stage] = dump(resolve(load_stage(stage)[1], *settings, where=f"{where}.{stage}"))
            except ConfigError as error:
                problems += str(error).splitlines()
    resolved[COMPARE] = {**resolved[COMPARE], "recommenders": lines}
    return problems


def _by_stage(
    sources: list[Mapping[str, Any]], stages: Sequence[str], problems: list[str]
) -> dict[str, list[Mapping[str, Any]]]:
    layers: dict[str, list[Mapping[str, Any]]] = {stage: [] for stage in stages}
    for source in sources:
        for key, value in source.items():
            stage, _, rest = key.partition(".")
            if stage not in stages:
                close = difflib.get_close_matches(stage, stages, n=1)
                hint = f", did you mean {close[0]}?" if close else f"; the stages are {', '.join(stages)}"
                state = "not a stage of this recipe" if stage in {*STAGES, *FURTHER} else "unknown stage"
                problems.append(f"{stage}: {state}{hint}")
            elif rest:
                layers[stage].append(nest(rest, value))
            elif isinstance(value, Mapping):
                layers[stage] += [nest(inner, setting) for inner, setting in value.items()]
            elif value is not None:
                problems.append(f"{stage}: expected a mapping of settings (given {value!r})")
    return layers


def _contradictions(resolved: Mapping[str, Resolved]) -> list[str]:
    """What each stage accepts by itself and a later one would refuse, perhaps hours later."""
    finetune = resolved["finetune"]
    pretrain = resolved.get("pretrain", finetune)
    problems = []
    for field in sorted(pretrain["recommender"].keys() | finetune["recommender"].keys()):
        before, after = pretrain["recommender"].get(field), finetune["recommender"].get(field)
        if before != after:
            problems.append(
                f"finetune.recommender.{field}: finetune starts from pretrain's model, and they differ: "
                f"{before!r} in pretrain, {after!r} in finetune; set both"
            )
    needed = max(VALIDATION_LIST, resolved["evaluate"]["list_length"])
    if finetune["recommender"].get("beam_size", needed) < needed:
        problems.append(f"finetune.recommender.beam_size: below the {needed} items of the lists; raise it in both")
    splits = resolved["ingest"]["splits"]
    stages = [stage for stage in ("pretrain", "finetune", "evaluate") if stage in resolved]
    fuser = resolved["fuse"]["fuser"]["name"] if "fuse" in resolved else None
    if fuser and issubclass(discover("fusers")[fuser], TrainedFuser):
        stages.append("fuse")
    quantize = resolved.get("quantize", {})
    problems += [
        f"{stage}.part: a recipe embeds all parts, each in a step of its own; leave it out, {stage}.parts is enough"
        for stage in ("embed_text", "embed_image")
        if resolved.get(stage, {}).get("part")
    ]
    skipped = any(resolved.get(stage, {}).get("skip") for stage in ("embed_text", "embed_image"))
    both = quantize.get("towers", "fused") != "fused" and quantize["form"] == "semantic_id"
    if both and skipped:
        problems.append(f"quantize.towers: {quantize['towers']!r} needs both modalities, and one is skipped; use fused")
    named = finetune["recommender"]["name"]
    if quantize.get("form") == "groups" and "codes" in discover("recommenders")[named].needs:
        problems.append(
            f"quantize.form: 'groups' are features of items for models of clicks, and {named} names items by semantic "
            "IDs; take semantic_id"
        )
    for stage in stages:
        split = resolved[stage]["split"]
        if split != finetune["split"]:
            problems.append(f"{stage}.split: {split!r}, but finetune.split is {finetune['split']!r}; set both")
        if splits and split not in splits:
            problems.append(f"{stage}.split: {split!r} is not among ingest.splits={splits}; add it there")
    return problems


def _control_runs(resolved: Mapping[str, Resolved], controls: bool) -> dict[str, Resolved]:
    pretrain, finetune = resolved["pretrain"], resolved["finetune"]
    epochs = pretrain["training"]["epochs"] + finetune["training"]["epochs"]
    runs = {"scratch": _with(finetune, epochs if controls else 0)}
    for name, stage in (("pretrain", pretrain), ("finetune", finetune)):
        own = stage["training"]["epochs"]
        runs[f"{name}_shuffled"] = _with(stage, own if controls else 0, shuffle_histories=True)
        runs[f"{name}_temporal"] = _with(stage, own if controls else 0, split="temporal", skip_without_split=True)
    return runs


def _ablations(finetune: Resolved) -> dict[str, Resolved]:
    """A model of rows once more without each of some things, so that each one's worth is measured."""
    model = discover("recommenders").get(finetune.get("recommender", {}).get("name", ""))
    without = finetune.get("recommender", {}).get("without")
    if model is None or without is None:
        return {}
    return {
        f"finetune_without_{what}": {
            **finetune,
            "recommender": {**finetune["recommender"], "without": sorted({*without, what})},
        }
        for what in getattr(model, "ablations", ())
    }


def _with(config: Resolved, epochs: int, **changes: Any) -> Resolved:
    return {**config, **changes, "training": {**config["training"], "epochs": epochs}}
