"""Splits: which events are for training, validation and test.

Splits are columns of the dataset. In `leave_one_out` and `temporal` a target is a user's last event of a part, its
history all events before it; so it is in `cold_items`, where some items have no train event. In `sessions` (see
`session_splits`) every event of a session but the first is a target. In `random`, `folds` and `new_items`, which look
at no time, and in `given`, which takes over the source's own parts, every labelled row is one.
"""

import numpy as np
from numpy.typing import NDArray

from modalrec.errors import ConfigError

TRAIN, VALID, TEST = 0, 1, 2
UNUSED = -1
"""Of an event that a split leaves out altogether."""
FULL_ONLY = -2
"""Of an event that neither train nor validation has, but the whole training set before validation was cut from it: for
a final model, which trains on TRAIN, VALID and these (`in_full`). To all others it is as UNUSED."""
UNTIMED = ("random", "folds", "new_items")
"""Splits that do not go by time: what came before a train row may be for test."""


def in_full(split: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which events a final model trains on [E]: all training data, with no validation part cut out of it."""
    return (split == TRAIN) | (split == VALID) | (split == FULL_ONLY)


def leave_one_out(users: NDArray[np.int32]) -> NDArray[np.int8]:
    """Each user's last event is for test, the one before for validation; users of one or two events only train.

    The usual protocol of sequential recommendation, and a leaky one: other users' later events are in training.

    Args:
        users: [E] user of every event, sorted, each user's events in order.
    """
    counts = np.bincount(users, minlength=int(users[-1]) + 1 if len(users) else 0)
    ends = np.cumsum(counts)
    split = np.full(len(users), TRAIN, np.int8)
    enough = counts >= 3
    split[ends[enough] - 1] = TEST
    split[ends[enough] - 2] = VALID
    return split


def cold_items(
    users: NDArray[np.int32], items: NDArray[np.int32], n_items: int, share: float, rng: np.random.Generator
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Leave-one-out with items that training has never met: new ones, such as a shop gets every day.

    Of a random share of the items all train events are left out; those for validation and test stay, so that settings
    for new items can be chosen as any others.

    Args:
        users: [E] user of every event, sorted, each user's events in order.
        items: [E] item of every event.
        n_items: Size of the catalogue.
        share: Of the items, to be held out.
        rng: Draws them.

    Returns:
        The split of every event, and the items that are held out, ascending.
    """
    held_out = np.sort(rng.permutation(n_items)[: round(share * n_items)])
    split = leave_one_out(users)
    split[np.isin(items, held_out) & (split == TRAIN)] = UNUSED
    return split, held_out


def random(n: int, valid_share: float, test_share: float, rng: np.random.Generator) -> NDArray[np.int8]:
    """Draws rows for validation and test, whatever their time: training knows what comes after the test rows.

    Args:
        n: Rows.
        valid_share: Share of the rows for validation.
        test_share: Share of the rows for test.
        rng: Draws them.

    Raises:
        ConfigError: A part is left without rows.
    """
    sizes = {"valid": int(n * valid_share), "test": int(n * test_share)}
    sizes["train"] = n - sum(sizes.values())
    empty = [name for name in ("train", "valid", "test") if sizes[name] <= 0]
    if empty:
        raise ConfigError(
            f"random split: no {' and no '.join(empty)} row of {n:,} with valid_share={valid_share:g} and "
            f"test_share={test_share:g}; raise the shares, or use splits=[leave_one_out]"
        )
    split = np.repeat(np.array([TRAIN, VALID, TEST], np.int8), [sizes["train"], sizes["valid"], sizes["test"]])
    return rng.permutation(split)


def fold(n: int, folds: int, number: int, valid_share: float, rng: np.random.Generator) -> NDArray[np.int8]:
    """One of K random folds is for test, whatever the rows' times; a share of the other rows for validation.

    With the same generator the folds of all numbers are disjoint and cover the rows: cross-validation, one at a time.

    Args:
        n: Rows.
        folds: K.
        number: Which fold, from 0.
        valid_share: Share of the rows that are not for test.
        rng: Draws the folds, and then the validation part.

    Raises:
        ConfigError: There is no such fold, or a part is left without rows.
    """
    if not 0 <= number < folds <= n:
        raise ConfigError(
            f"folds: fold={number} of folds={folds} with {n:,} rows; take 0 to {folds - 1} of at most {n:,}"
        )
    order = rng.permutation(n)
    split = np.full(n, TRAIN, np.int8)
    split[order[number::folds]] = TEST
    others = np.flatnonzero(split == TRAIN)
    count = round(len(others) * valid_share)
    if not 0 < count < len(others):
        raise ConfigError(f"folds: valid_share={valid_share:g} of {len(others):,} rows leaves a part empty; change it")
    split[rng.permutation(others)[:count]] = VALID
    return split


def new_items(
    items: NDArray[np.int32],
    n_items: int,
    share: float,
    valid_share: float,
    test_share: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """A random split with items that training has never met: all their rows are for test, or all for validation.

    Args:
        items: [E] item of every row.
        n_items: Size of the catalogue.
        share: Of the items, to be held out for test, and as many for validation.
        valid_share: Share of the rows of the other items.
        test_share: Share of the rows of the other items.
        rng: Draws both.

    Returns:
        The split of every row, and the items that are held out for test, ascending.

    Raises:
        ConfigError: A part is left without rows.
    """
    count = round(share * n_items)
    drawn = rng.permutation(n_items)
    split = random(len(items), valid_share, test_share, rng)
    for part, chosen in ((TEST, drawn[:count]), (VALID, drawn[count : 2 * count])):
        split[np.isin(items, chosen)] = part
    if not (split == TRAIN).any():
        raise ConfigError(f"new_items: cold_share={share:g} leaves no row for training; lower it")
    return split, np.sort(drawn[:count])


def given(roles: NDArray[np.int8], parts: tuple[str, ...]) -> NDArray[np.int8]:
    """The parts that rows came in as a split: `train`, `valid`, and every other as test.

    Args:
        roles: [E] place of a row's part in `parts`.
        parts: Names of the parts.
    """
    numbers = {"train": TRAIN, "valid": VALID}
    return np.array([numbers.get(part, TEST) for part in parts], np.int8)[roles]


def temporal(
    timestamps: NDArray[np.int64], valid_share: float, test_share: float
) -> tuple[NDArray[np.int8], list[int]]:
    """Cuts all users' events at two points in time; events at a cut belong to the later part.

    Args:
        timestamps: [E] ticks since 1970, as in `Events`.
        valid_share: Share of the events for validation, before the test events.
        test_share: Share of the events, the latest, for test.

    Returns:
        The split of every event, and the two cuts in ticks.

    Raises:
        ConfigError: A part is left without events, because the shares are out of range or too many times are equal.
    """
    n = len(timestamps)
    shares = f"valid_share={valid_share:g} and test_share={test_share:g}"
    if not n or min(valid_share, test_share) <= 0 or valid_share + test_share >= 1:
        raise ConfigError(f"temporal split: {shares} of {n:,} events; each must be above 0 and their sum below 1")
    places = [min(n - 1, int(n * left)) for left in (1 - valid_share - test_share, 1 - test_share)]
    valid_cut, test_cut = np.partition(timestamps, places)[places].tolist()
    split = np.full(n, TRAIN, np.int8)
    split[timestamps >= valid_cut] = VALID
    split[timestamps >= test_cut] = TEST
    empty = [name for name, part in (("train", TRAIN), ("valid", VALID)) if not (split == part).any()]
    if empty:
        raise ConfigError(
            f"temporal split: no {' and no '.join(empty)} event, cuts at {valid_cut} and {test_cut} from {shares}; "
            "too many events share a time. Change the shares, or use splits=[leave_one_out]"
        )
    return split, [valid_cut, test_cut]
