"""Leakage checks in the report: what should hold of a fair test, and what was found in this one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modalrec.artifacts.manifest import Ancestor, Manifest
from modalrec.evaluation.leakage import Leakage
from modalrec.evaluation.report.data import date
from modalrec.evaluation.report.text import clean

TELLING = 0.05
"""Difference in the share of positive and negative rows whose item is in the given history: more tells the label."""


@dataclass(frozen=True)
class Check:
    """What should hold, and what was found.

    Attributes:
        state: `fine`; `known`, where the protocol or the data brings it along, or only the source can tell; or `leak`.
    """

    should: str
    found: str
    state: Literal["fine", "known", "leak"]


def leakage_checks(found: Leakage, dataset: Manifest, manifests: Mapping[str, Manifest]) -> list[Check]:
    """All checks of a test part, and of what was fitted before it was measured.

    Args:
        found: What was counted.
        dataset: The dataset.
        manifests: All that went in, by edge or name.
    """
    return [
        _times(found),
        _histories(found),
        _twice(found),
        _met(found),
        _new(found),
        *_popularity(found),
        _fitted(found.split, dataset, manifests),
    ]


def leaks(checks: Sequence[Check]) -> list[str]:
    """The checks that failed, as warnings."""
    return [f"A leakage check failed. {check.should}: {check.found}" for check in checks if check.state == "leak"]


def _times(found: Leakage) -> Check:
    should = "Training ends before the test part begins"
    if not found.timed:
        return Check(should, "not known, since not every event has a time", "known")
    ends = f"the last train event is of {date(found.last_train)}"
    if not found.early:
        return Check(should, f"{ends}, the first test event of {date(found.first_test)}", "fine")
    early = f"{_of(found.early, found.events)} test events are not later: {ends}"
    if found.split == "temporal":
        return Check(should, early, "leak")
    return Check(should, f"{early}; the split {_name(found.split)} brings that along", "known")


def _histories(found: Leakage) -> Check:
    should = "Histories hold nothing later than their target"
    if found.given or not found.timed:
        why = "the histories came with the rows" if found.given else "not every event has a time"
        return Check(should, f"not known, since {why}", "known")
    if found.disordered:
        return Check(should, f"{_of(found.disordered, found.events)} test events come after a later one", "leak")
    return Check(should, f"so it is for all {found.events:,} test events", "fine")


def _twice(found: Leakage) -> Check:
    should = "No test event is in training too"
    if not found.timed:
        return Check(should, "not known, since without times an event cannot be told from a repeated one", "known")
    if found.twice:
        return Check(should, f"{_of(found.twice, found.events)} have user, item and time of a train event", "leak")
    return Check(should, "none has user, item and time of a train event", "fine")


def _met(found: Leakage) -> Check:
    should = "Targets are not in their own history"
    met = {kind: number for kind, (_, number) in found.met.items()}
    if not any(met.values()):
        return Check(should, "none is", "fine")
    shown = "; ".join(f"{kind}: {_of(number, found.met[kind][0])}" for kind, number in met.items())
    shares = [met[kind] / found.met[kind][0] for kind in ("positive", "negative") if kind in met]
    if found.given and len(shares) == 2 and abs(shares[0] - shares[1]) > TELLING:
        return Check(should, f"{shown}; whether the item is there tells the label", "leak")
    return Check(should, f"{shown}; people come back to items", "known")


def _new(found: Leakage) -> Check:
    people = "sessions" if found.split.startswith("sessions") else "users"
    new = f"{_of(found.new_users, found.users)} {people} have no train event"
    items = f"the item of {_of(found.new_items, found.events)} test events has none"
    state: Literal["fine", "known"] = "known" if found.new_users or found.new_items else "fine"
    return Check(f"Training knows the {people} and items of the test part", f"{new}; {items}", state)


def _popularity(found: Leakage) -> Iterator[Check]:
    should = "Popularity is counted in training"
    if found.told:
        names = clean(", ".join(found.told), 200)
        yield Check(should, f"{names} came with the data, which may have counted test rows in", "known")
    elif found.labelled:
        yield Check(should, "in train rows strictly before each row", "fine")


def _fitted(split: str, dataset: Manifest, manifests: Mapping[str, Manifest]) -> Check:
    should = f"All that learns from events learns from the train part of {_name(split)}"
    learnt: dict[str, None] = {}
    wrong: dict[str, None] = {}
    for ancestor in _behind(manifests):
        if ancestor.inputs.get("dataset") != dataset.digest or "split" not in ancestor.config:
            continue
        part = str(ancestor.config.get("fit_on", "train")).replace("_", " ")
        by = f", its epoch chosen by {ancestor.config['monitor']} of valid" if _chosen(ancestor) else ""
        learnt[f"{ancestor.stage}: {part}{by}"] = None
        if ancestor.config["split"] != split:
            wrong[f"{ancestor.stage} learnt from the split {_name(ancestor.config['split'])}"] = None
    if wrong:
        return Check(should, f"{'; '.join(wrong)}, where test events of this one may be in training", "leak")
    return Check(should, clean("; ".join(learnt), 400) or "nothing learns", "fine")


def _chosen(ancestor: Ancestor) -> bool:
    return "monitor" in ancestor.config and ancestor.config.get("fit_on", "train") == "train"


def _behind(manifests: Mapping[str, Manifest]) -> Iterator[Ancestor]:
    """What went into the headline's numbers, each once; the control that is split by time is none of it."""
    known: dict[str, Ancestor] = {}
    for manifest in manifests.values():
        known |= {manifest.digest: manifest.ancestor()} | manifest.lineage
    waiting = [manifest.digest for edge, manifest in manifests.items() if edge != "temporal"]
    done: set[str] = set()
    while waiting:
        digest = waiting.pop(0)
        if digest in known and digest not in done:
            done.add(digest)
            ancestor = known[digest]
            if ancestor.stage != "evaluate":
                yield ancestor
            waiting += [one for edge, one in ancestor.inputs.items() if edge != "temporal"]


def _of(some: int, everything: int) -> str:
    share = 100 * some / everything if everything else 0.0
    return f"{some:,} of {everything:,} ({share:.1f} %)" if some else f"0 of {everything:,}"


def _name(split: object) -> str:
    return clean(str(split).replace("_", " "))
