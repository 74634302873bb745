"""The second part of `ingest`: which events stay, and which part of a split each belongs to."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalrec.data.describe import describe_rows, describe_sessions, describe_split
from modalrec.data.events import HIDDEN, Collected, Events
from modalrec.data.filters import k_core, single_pass
from modalrec.data.session_splits import split_sessions
from modalrec.data.sources import CONTEXT
from modalrec.data.splits import UNTIMED, UNUSED, cold_items, fold, given, leave_one_out, new_items, random, temporal
from modalrec.errors import DataError
from modalrec.run import Run
from modalrec.stages._ingest_config import SIZES, Config

Columns = dict[str, NDArray[np.int8]]
BY_ROW = ("given", *UNTIMED)
"""Splits that look at no time."""


@dataclass
class Selected:
    """The events that stay.

    Attributes:
        events: Users and items as they were read, or sessions in the place of users.
        owners: [S] user of every session, where ingest has cut users into sessions.
        numbers: Earlier numbers of users (or sessions) that were numbered anew.
        columns: The columns of the split `sessions`; the events are those that it leaves then.
        summary: What each step took away.
        counts: Sizes of the published parts of the split `sessions`.
        cuts: Seconds at which its validation and test begin.
    """

    events: Events
    owners: NDArray[np.int32] | None = None
    numbers: NDArray[np.int32] | None = None
    columns: Columns = field(default_factory=dict)
    summary: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    cuts: dict[str, int] = field(default_factory=dict)

    def drop(self, step: str, gone: NDArray[np.bool_], why: str, **more: Any) -> None:
        """Takes events away and notes how many and why."""
        self.summary.append({"step": step, "interactions": int(gone.sum()), "why": why, **more})
        self.events = self.events.keep_only(~gone)

    def user_names(self, users: NDArray[np.int64], ids: list[str]) -> list[str]:
        """The names of users; a session that was cut is its user and its number among the user's."""
        numbers = users if self.numbers is None else self.numbers[users]
        if self.owners is None:
            return [ids[user] for user in numbers]
        firsts = np.searchsorted(self.owners, self.owners)
        return [f"{ids[self.owners[session]]}/{session - firsts[session]}" for session in numbers]


def select(events: Events, collected: Collected, config: Config, parts: tuple[str, ...]) -> Selected:
    """The events that pass all filters and that the split `sessions`, where it is asked for, has a use for.

    Raises:
        DataError: Nothing is left.
        ConfigError: A part of the split is left without events.
    """
    unknown = collected.unknown
    chosen = Selected(events)
    examples = [item for item, _ in unknown.most_common(5)]
    why = "their item is not in the items table"
    dropped = {"step": "unknown_item", "interactions": unknown.total(), "why": why}
    chosen.summary.append({**dropped, "items": len(unknown), "examples": examples})
    if config.session_gap is not None:
        chosen.events, chosen.owners = chosen.events.cut_at_gaps(config.session_gap)
    roles = chosen.events.roles
    if roles is not None and (roles == CONTEXT).any():
        chosen.drop("other_event_types", roles == CONTEXT, "of kinds that are not kept")
    if config.exact_repeats == "drop":
        chosen.drop(
            "exact_repeats", chosen.events.exact_repeats(), "user, item, time, rating and label equal another row's"
        )
    _filter(chosen, config)
    if not len(chosen.events):
        steps = "; ".join(f"{step['interactions']:,} dropped: {step['why']}" for step in chosen.summary)
        raise DataError(
            f"no interaction is left of {collected.rows:,} rows: {steps}. "
            "Lower min_user_events and min_item_events, or look at the rows above"
        )
    if "sessions" in (config.splits or ()):
        split = split_sessions(chosen.events, config.session_split, parts)
        chosen.events = chosen.events.take(split.keep)
        chosen.columns, chosen.counts, chosen.cuts = split.columns, split.counts, split.cuts
        chosen.summary += [vars(drop) for drop in split.drops]
        _order_by_start(chosen)
    return chosen


def _order_by_start(chosen: Selected) -> None:
    """Numbers sessions by their start, to the millisecond: seconds in the dataset can not tell any more."""
    order = chosen.events.by_start()
    events = chosen.events.take(order)
    starts = events.starts()
    lengths = np.diff(np.append(starts, len(events)))
    chosen.numbers = events.users[starts]
    chosen.events = replace(events, users=np.repeat(np.arange(len(starts), dtype=np.int32), lengths))
    chosen.columns = {name: column[order] for name, column in chosen.columns.items()}


def _filter(chosen: Selected, config: Config) -> None:
    if config.positive_rating is not None and chosen.events.ratings is not None:
        bad = ~(chosen.events.ratings >= config.positive_rating)
        chosen.drop("below_rating", bad, f"rated below {config.positive_rating:g} or not at all")
    if config.deduplicate == "consecutive":
        why = "the user's event just before has the same item"
        chosen.drop("repeated_items", chosen.events.repeats_in_a_row(), why)
    elif config.deduplicate != "all":
        others = ~chosen.events.once(config.deduplicate)
        chosen.drop("repeated_items", others, f"not the user's {config.deduplicate} event with the item")
    least_user, least_item = config.min_user_events or 1, config.min_item_events or 1
    core = k_core if config.core == "repeated" else single_pass
    keep, rounds = core(chosen.events.users, chosen.events.items, least_user, least_item)
    why = f"fewer than {least_user} events a user, {least_item} an item"
    chosen.drop("core", ~keep, why, rounds=[vars(one) for one in rounds])


def split_columns(
    chosen: Selected, n_items: int, config: Config, parts: tuple[str, ...], run: Run
) -> tuple[Columns, dict[str, dict[str, float]]]:
    """The split columns by name, and what is to be known of each; users are numbered without gaps."""
    events = chosen.events
    columns: Columns = {}
    facts: dict[str, dict[str, float]] = {}
    for name in config.splits or ():
        cuts: dict[str, float] = {}
        if name == "sessions":
            columns |= chosen.columns
            for column, split in chosen.columns.items():
                facts[column] = describe_sessions(events.users, events.items, split, n_items) | chosen.cuts
            continue
        if name in BY_ROW:
            columns[name] = _by_row(name, events, n_items, config, parts, run)
            facts[name] = describe_rows(events.users, events.items, events.labels, columns[name], n_items)
            continue
        if name == "temporal" and events.timestamps is not None:
            columns[name], places = temporal(events.timestamps, config.valid_share, config.test_share)
            cuts = {
                f"{part}_cut": cut // events.per_second for part, cut in zip(("valid", "test"), places, strict=True)
            }
        elif name == "cold_items":
            rng = run.rng("cold_items")
            columns[name], held_out = cold_items(events.users, events.items, n_items, config.cold_share, rng)
            cuts = {"held_out_items": len(held_out)}
        else:
            columns[name] = leave_one_out(events.users)
        facts[name] = describe_split(events.users, events.items, columns[name], n_items) | cuts
    return columns, facts


def _by_row(
    name: str, events: Events, n_items: int, config: Config, parts: tuple[str, ...], run: Run
) -> NDArray[np.int8]:
    """A split that looks at no time; rows with a hidden label are of no use to a random one."""
    if name == "given" and events.roles is not None:
        return given(events.roles, parts)
    told = np.ones(len(events), np.bool_) if events.labels is None else events.labels != HIDDEN
    split = np.full(len(events), UNUSED, np.int8)
    n, rng = int(told.sum()), run.rng(name)
    if name == "folds":
        split[told] = fold(n, config.folds, config.fold, config.valid_share, rng)
    elif name == "new_items":
        shares = (config.cold_share, config.valid_share, config.test_share)
        split[told], _ = new_items(events.items[told], n_items, *shares, rng)
    else:
        split[told] = random(n, config.valid_share, config.test_share, rng)
    return split


def say_published(chosen: Selected, config: Config, run: Run) -> dict[str, Any]:
    """Prints measured beside published counts, and returns them."""
    published = config.published
    if published is None:
        return {}
    run.say(f"counts, and those of {published.where}:")
    found = {}
    for name, count in published.counts.items():
        here = chosen.counts[name]
        found[name] = {"here": here, "published": count, "difference": here - count}
        run.say(f"  {name.replace('_', ' '):<22}{here:>12,}{count:>12,}{here - count:>+12,}")
    return {"published": {"where": published.where, **found}}


def sizes(counts: dict[str, int]) -> list[str]:
    """A line for each part of the split `sessions`: its events, sessions and items."""
    parts = dict.fromkeys(name.rpartition("_")[0] for name in counts)
    return [f"{part}: " + ", ".join(f"{counts[f'{part}_{size}']:,} {size}" for size in SIZES) for part in parts]
