"""What proves that a model learns the next item from the items before it alone: no target is in its encoder's input."""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from modalrec.data.sequences import Sequences
from modalrec.data.splits import TRAIN
from modalrec.recommenders import ItemSpace, Recommender
from modalrec.training.windows import PAD

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6).filter(lambda lengths: max(lengths) > 1)
"""Events of each user, one of them with something to learn."""


def every_event_another_item(lengths: list[int]) -> Sequences:
    """Users with so many events, each of an item of its own; the catalogue may have one more, that nobody had."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n = int(offsets[-1])
    return Sequences(np.arange(n, dtype=np.int32), offsets, np.full(n, TRAIN, np.int8), n, "leave_one_out")


def one_code_each(n_items: int, content_width: int = 0) -> ItemSpace:
    """Items of which no two share a code of any level: a code tells its item, and so does content."""
    names = [str(item) for item in range(n_items)]
    codes = np.tile(np.arange(n_items, dtype=np.int32)[:, None], 3)
    content = np.random.default_rng(0).standard_normal((n_items, content_width)).astype(np.float32)
    return ItemSpace(names, names, codes, (n_items,) * 3, content if content_width else None)


def encoder_states(model: Recommender, encoder: nn.Module, batch: Any) -> torch.Tensor:
    """What the encoder gives in `loss`."""
    caught: list[torch.Tensor] = []
    hook = encoder.register_forward_hook(lambda module, given, states: caught.append(states.detach()))
    model.loss(batch)
    hook.remove()
    return torch.cat(caught)


def check_windows(model: Recommender, encoder: nn.Module, lengths: list[int], seed: int, augment: bool) -> None:
    """A state of a window does not depend on what comes after its item, and each event is a target once an epoch."""
    train = every_event_another_item(lengths)
    batches = model.batches(train, 4, seed, augment)
    user_of = np.repeat(np.arange(len(lengths)), lengths)
    targets: list[int] = []
    for step, indices in enumerate(batches.plan(0)):
        batch = batches.build(0, step, indices)
        before = encoder_states(model, encoder, batch)
        for row in batch:
            window = row[row != PAD].tolist()
            targets += window[1:]
            assert window == sorted(window)
            assert len({user_of[item] for item in window}) == 1
        for place in range(1, batch.shape[1]):
            changed = torch.where(torch.arange(batch.shape[1]) >= place, train.n_items, batch)
            changed[batch == PAD] = PAD
            assert torch.equal(encoder_states(model, encoder, changed)[:, :place], before[:, :place])
    assert augment or sorted(targets) == sorted(set(range(train.n_items)) - set(train.offsets[:-1].tolist()))
