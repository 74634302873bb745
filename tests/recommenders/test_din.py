import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from modalrec.config import resolve
from modalrec.data.splits import TRAIN
from modalrec.recommenders.din import DIN, DINConfig
from modalrec.testing.rows import taste_rows, taste_space, tastes
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import collate
from tests.recommenders.din_cases import BATCH, RATE, ROWS, small_case


def small(**settings: object) -> tuple[DIN, dict[str, Tensor]]:
    """A model with weights that matter, and a batch in which some histories are empty."""
    rows = taste_rows(tastes())
    torch.manual_seed(0)
    chosen = {"width": 4, "attention": [8, 5], "layers": [16], "dropout": 0.0, "embedding_std": 0.5, **settings}
    model = DIN(resolve(DINConfig, chosen), taste_space(tastes(), rows))
    batch = collate(rows, rows.of(TRAIN, "click")[:40], 6, "click")
    assert (batch["offset"].diff() == 0).any()
    return model, batch


@pytest.mark.parametrize("kind", ["relu", "sigmoid"])
def test_attention_is_that_of_the_paper_padded_and_masked(kind: str) -> None:
    """W [q, k, q - k, q * k] at every padded position, masked by multiplication: the same value and gradients."""
    model, batch = small(attention_activation=kind)
    items_UD = model.fields.items(batch).detach().requires_grad_()
    targets_BD = items_UD[batch["target"]]
    fast_BD = model.attention(targets_BD, items_UD, batch)
    lengths = torch.bincount(batch["row"], minlength=40)
    padded_BL = torch.zeros(40, int(lengths.max()), dtype=torch.int64)
    mask_BL = torch.arange(padded_BL.shape[1]) < lengths[:, None]
    padded_BL[mask_BL] = batch["past"]
    k = items_UD[padded_BL]
    q = targets_BD[:, None].expand_as(k)
    hidden = model.attention.rest(model.attention.first(torch.cat([q, k, q - k, q * k], -1)))
    weights_BL = model.attention.last(hidden)[..., 0] * mask_BL
    slow_BD = (weights_BL[..., None] * k).sum(1)
    torch.testing.assert_close(fast_BD, slow_BD)
    assert not fast_BD[lengths == 0].any()
    parameters = [items_UD, *model.attention.parameters()]
    draw_BD = torch.randn(slow_BD.shape, generator=torch.Generator().manual_seed(0))
    fast = torch.autograd.grad((fast_BD * draw_BD).sum(), parameters, retain_graph=True)
    slow = torch.autograd.grad((slow_BD * draw_BD).sum(), parameters)
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_only_the_latest_entries_of_a_history_count() -> None:
    rows = taste_rows(tastes())
    places = rows.of(TRAIN, "click")
    batch = collate(rows, places, 3, "click")
    lengths = torch.bincount(batch["row"], minlength=len(places))
    assert lengths.max() == 3
    long = int(lengths.argmax())
    span = slice(int(batch["offset"][long]), int(batch["offset"][long]) + 3)
    ends = int(rows.ends[places[long]])
    assert batch["item"][batch["past"][span]].tolist() == rows.past[ends - 3 : ends].tolist()


def test_what_a_batch_lists_once_is_an_item_with_what_it_had_at_the_time() -> None:
    rows = taste_rows(tastes())
    batch = collate(rows, rows.of(TRAIN, "click")[:40], 6, "click")
    pairs = list(zip(batch["item"].tolist(), batch["event_views_level"].tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    assert batch["item"][batch["target"]].tolist() == rows.items[rows.of(TRAIN, "click")[:40]].tolist()
    levels = rows.values["event_views_level"][rows.of(TRAIN, "click")[:40]]
    assert batch["event_views_level"][batch["target"]].tolist() == levels.tolist()


def test_predictions_losses_and_what_training_makes_of_them_are_fuxictrs() -> None:
    """Four steps of its own training, with its Adam over whole tables."""
    recorded = json.loads((Path(__file__).parents[1] / "reference" / "din.json").read_bytes())
    model, rows = small_case()
    batches = [collate(rows, np.arange(begin, begin + BATCH), 5, "click") for begin in range(0, ROWS, BATCH)]
    torch.testing.assert_close(model.eval().predict(batches[0]), torch.tensor(recorded["before"]))
    assert len(set(recorded["before"])) == BATCH
    steps = model.train().steps(TrainingConfig(weight_decay=0.0, clip_norm=10.0), 0)
    losses = [steps.step(batch, RATE).losses["loss"] for batch in batches]
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-5)
    torch.testing.assert_close(model.eval().predict(batches[0]), torch.tensor(recorded["after"]), rtol=1e-4, atol=1e-5)
