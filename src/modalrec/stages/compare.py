"""The stage `compare`: several evaluations of the same targets side by side, in one table and one report.

Nothing is trained or ranked again: an evaluation keeps every rank, and its manifest tells how the model was made, what
that cost, and which modalities went in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pyarrow.parquet as pq

from modalrec.artifacts.files import write_json
from modalrec.artifacts.manifest import Manifest, read_manifest, write_artifact
from modalrec.config import flatten, resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.evaluation.comparison import differences, slices
from modalrec.evaluation.kept import read_ranking
from modalrec.evaluation.leakage import measure_leakage
from modalrec.evaluation.report.comparison import ComparisonContents, Entry, build_comparison
from modalrec.evaluation.results import HEADLINE, Result, summarise
from modalrec.run import Run
from modalrec.stages._compare_config import Config
from modalrec.stages._evaluate_config import Baseline
from modalrec.stages._evaluate_config import Config as Protocol
from modalrec.stages.parts import Rules, load_part

ALIKE = ("split", "targets", "unseen_items", "mask_seen", "cold_below", "tie_mode", "cutoffs", "list_length")
"""What evaluations must have in common."""
MODALITIES = ("text", "image")


@dataclass(frozen=True)
class Evaluated:
    """An evaluation that came in."""

    folder: Path
    manifest: Manifest

    @property
    def model(self) -> Manifest:
        """The model that was measured."""
        return self.manifest.parent(HEADLINE)

    @property
    def protocol(self) -> Protocol:
        """How it was measured."""
        return resolve(Protocol, self.manifest.config, where=str(self.folder))

    @property
    def fit_on(self) -> str:
        """Which parts the model has learnt from."""
        return str(self.model.config.get("fit_on", "train"))

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model knows of items beside clicks: none, text, image, or both."""
        waiting, found = [self.manifest.inputs[HEADLINE]], set()
        while waiting:
            for edge, digest in self.manifest.lineage[waiting.pop()].inputs.items():
                if edge == "dataset" or digest not in self.manifest.lineage:
                    continue
                waiting.append(digest)
                # Vectors that no item has were skipped, or there was nothing to make them of.
                if self.manifest.lineage[digest].statistics.get("present", 1):
                    found.add(edge.removesuffix("_embeddings"))
        return tuple(name for name in MODALITIES if name in found)


def compare(
    evaluations: Sequence[Path], dataset: Path, comparison: Path, *, config: Config, run: Run
) -> dict[str, float]:
    """Puts evaluations beside each other, and beside the baselines that they have in common.

    Args:
        evaluations: Of models that were measured on the same targets of the dataset; at least one.
        dataset: The dataset, for the slices.
        comparison: Where to write `metrics.json`, `report.html` and `summary.md`.
        config: What to compare by.
        run: The stage's run.

    Returns:
        Metrics of every row by its name, such as `sasrec_ndcg_10`.

    Raises:
        ArtifactError: An evaluation is damaged, of rows, or of another dataset or other targets than the first.
        ConfigError: They were made under different protocols; the cut-off was not measured; the names do not fit.
    """
    given = [Evaluated(folder, read_manifest(folder, "evaluation")) for folder in evaluations]
    data = read_manifest(dataset, "dataset")
    _refuse_unlike(given, data, config)
    protocol = given[0].protocol
    with_valid = given[0].fit_on == "train_and_valid"
    rules = Rules(protocol.targets == "every", protocol.unseen_items == "drop", with_valid)
    part = load_part(dataset, protocol.split, rules, run)

    def measured(name: str, folder: Path, row: str) -> Result:
        ranking = read_ranking(folder, row, protocol.list_length, part.sequences.n_items)
        return summarise(
            name,
            ranking,
            part.sequences,
            protocol.cutoffs,
            run.rng("comparison", name),
            config.bootstrap_samples,
            ties=protocol.tie_mode,
            primary=f"{config.metric}_{config.k}",
            cold_below=protocol.cold_below,
        )

    names = names_of(given, config.names)
    with write_artifact(
        comparison,
        "comparison",
        stage="compare",
        config=config,
        seed=run.seed,
        inputs={"dataset": data} | {f"evaluation_{n}": one.manifest for n, one in enumerate(given)},
    ) as work:
        entries = [
            Entry(measured(name, one.folder, HEADLINE), one.model, one.modalities)
            for name, one in run.track(list(zip(names, given, strict=True)), "evaluations")
        ]
        shared = [name for name in protocol.baselines if (given[0].folder / "ranks" / f"{name}.parquet").is_file()]
        baselines = [Entry(measured(name, given[0].folder, name)) for name in shared]
        everything = [*entries, *baselines]
        for entry, one in zip(entries, given, strict=True):
            if not entry.result.ranking.same_targets(everything[0].result.ranking):
                raise ArtifactError(f"{one.folder}: ranks other targets than {given[0].folder}; evaluate both alike")
        everything.sort(key=lambda entry: -entry.result.metrics[f"{config.metric}_{config.k}"])
        than = next((entry for entry in everything if entry.model is None), everything[0])
        results = [entry.result for entry in everything]
        against = differences(results, than.result, config.metric, config.k, run, config.bootstrap_samples)
        for entry in everything:
            work.statistics |= entry.result.flat()
        write_json(work.folder / "metrics.json", work.statistics)
        pictured_N = pq.read_table(dataset / "items.parquet", columns=["image"])["image"].to_numpy() == "given"
        build_comparison(
            ComparisonContents(
                run=run,
                metric=f"{config.metric}_{config.k}",
                split=protocol.split,
                leakage=measure_leakage(dataset, protocol.split, with_valid=with_valid),
                dataset=data,
                entries=everything,
                than=than,
                against=against,
                slices=slices(results[0].ranking, part.sequences, pictured_N),
                manifests={name: one.manifest for name, one in zip(names, given, strict=True)},
            )
        ).write(work.folder)
        metrics: dict[str, float] = dict(work.statistics)
    return metrics


def names_of(given: Sequence[Evaluated], chosen: Sequence[str]) -> list[str]:
    """The names of the rows: the chosen ones, else the recommenders' with the settings that tell equal ones apart.

    Raises:
        ConfigError: Not one name for each evaluation, one twice, or that of a baseline.
    """
    if chosen:
        if len(chosen) != len(given) or len(set(chosen)) != len(chosen):
            raise ConfigError(
                f"names: {len(chosen)} names ({', '.join(chosen)}) for {len(given)} evaluations; give each one its own"
            )
        taken = [name for name in chosen if name in (HEADLINE, *get_args(Baseline))]
        if taken:
            raise ConfigError(
                f"names: {', '.join(taken)} stands for a row that every evaluation has; take another name"
            )
        return list(chosen)
    told = [
        flatten({"modalities": "+".join(one.modalities) or "none", **one.model.config, "seed": one.manifest.seed})
        for one in given
    ]
    names = [str(settings["recommender.name"]) for settings in told]
    for key in dict.fromkeys(key for settings in told for key in settings):
        for name in sorted({name for name in names if names.count(name) > 1}):
            alike = [number for number, other in enumerate(names) if other == name]
            if len({str(told[number].get(key)) for number in alike}) > 1:
                for number in alike:
                    names[number] += f", {key.rpartition('.')[2]} {told[number].get(key)}"
    return [name if names.count(name) == 1 else f"{name}, {number + 1}" for number, name in enumerate(names)]


def _refuse_unlike(given: Sequence[Evaluated], data: Manifest, config: Config) -> None:
    if not given:
        raise ConfigError("compare: no evaluation is given; give at least one output folder of `evaluate`")
    first, problems = given[0], []
    for one in given:
        if "recommender" not in one.model.config or not (one.folder / "ranks").is_dir():
            raise ArtifactError(f"{one.folder}: holds no ranks; only models that rank items are compared")
        if one.manifest.inputs["dataset"] != data.digest:
            raise ArtifactError(f"{one.folder}: was measured on another dataset; give the one that it was measured on")
        for field in ALIKE:
            mine, theirs = getattr(one.protocol, field), getattr(first.protocol, field)
            if mine != theirs:
                problems.append(f"{one.folder}: {field}={mine!r}, and {theirs!r} in {first.folder}")
        if one.fit_on != first.fit_on:
            problems.append(
                f"{one.folder}: trained with fit_on={one.fit_on}, and with {first.fit_on} in {first.folder}"
            )
    if config.k not in first.protocol.cutoffs:
        known = ", ".join(map(str, first.protocol.cutoffs))
        problems.append(f"k={config.k}: not among the cut-offs {known} that were measured")
    if problems:
        raise ConfigError("compare: " + "\n  ".join([*problems, "evaluate all of them alike"]))
