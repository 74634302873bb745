"""MP4SR's parts beside numbers recorded from the authors' code, and where ours differ, beside plain formulas."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modalrec.recommenders._mp4sr_items import AttentionPooling, Experts, Gathered
from modalrec.recommenders._mp4sr_losses import (
    cross_modal,
    next_item,
    published_cross_modal,
    published_next_item,
    same_next,
)
from tests.recommenders.mp4sr_cases import COUNTS, EXPERTS, HIDDEN, LENGTH, NEXT, TEMPERATURE, WIDTH, reference_inputs

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "reference" / "mp4sr.json").read_text())
INPUTS = reference_inputs()
TARGETS = torch.tensor(NEXT)
SAME = same_next(TARGETS)
FIRST, SECOND, ITEMS = (F.normalize(INPUTS[name], dim=1) for name in ("first", "second", "items"))


def gathered() -> Gathered:
    members = torch.arange(sum(COUNTS))
    return Gathered(INPUTS["vectors"], members, torch.tensor(COUNTS))


def pooling(padded: int) -> AttentionPooling:
    made = AttentionPooling(LENGTH, HIDDEN, padded)
    names = ["attention_0", "attention_bias_0", "attention_1", "attention_bias_1"]
    with torch.no_grad():
        for parameter, name in zip(made.parameters(), names, strict=True):
            parameter.copy_(INPUTS[name])
    return made


def close(found: torch.Tensor, golden: list[float]) -> None:
    np.testing.assert_allclose(found.detach().flatten().numpy(), golden, rtol=2e-5, atol=1e-6)


def test_published_pooling_gives_weight_to_the_zeros_that_fill_lists() -> None:
    close(pooling(max(COUNTS))(gathered()), GOLDEN["pooled"])


def test_our_pooling_is_a_mean_of_the_real_vectors_by_a_softmax() -> None:
    made, begin = pooling(0), 0
    for pooled_V, count in zip(made(gathered()), COUNTS, strict=True):
        vectors = INPUTS["vectors"][begin : begin + count]
        weights = made.scores(vectors).softmax(0)
        torch.testing.assert_close(pooled_V, (weights * vectors).sum(0))
        begin += count


def test_pooling_is_trained_and_the_published_one_is_not() -> None:
    made = pooling(0)
    made(gathered()).pow(2).sum().backward()
    # A bias before a softmax moves all weights alike: its gradient is zero, and only its.
    assert [parameter.grad is not None for parameter in made.parameters()] == [True] * 4
    assert made.scores[0].weight.grad.abs().sum() > 0
    assert GOLDEN["pooling_parameters_with_a_gradient"] == 0


def test_experts() -> None:
    made = Experts(LENGTH, WIDTH, EXPERTS, dropout=0.0, leading=False)
    with torch.no_grad():
        made.linear.weight.copy_(INPUTS["expert_weights"].flatten(0, 1))
        made.linear.bias.copy_(INPUTS["expert_biases"].flatten())
        made.scale.copy_(INPUTS["expert_scales"])
        made.shift.copy_(INPUTS["expert_shifts"])
        made.gate.copy_(INPUTS["gate"])
    close(made(torch.tensor(GOLDEN["pooled"]).view(-1, LENGTH)), GOLDEN["adapted"])


@pytest.mark.parametrize(("states", "golden"), [([FIRST], "next_item"), ([FIRST, SECOND], "next_item_of_both")])
def test_published_next_item(states: list[torch.Tensor], golden: str) -> None:
    close(published_next_item(states, ITEMS[TARGETS], SAME, TEMPERATURE), GOLDEN[golden])


def test_published_cross_modal() -> None:
    close(published_cross_modal(FIRST, SECOND, SAME, TEMPERATURE), GOLDEN["cross_modal"])


@pytest.mark.parametrize("states", [[FIRST], [FIRST, SECOND]])
def test_our_next_item_counts_every_other_item_of_the_batch_once(states: list[torch.Tensor]) -> None:
    likelihoods = sum(torch.exp(one @ ITEMS.T / TEMPERATURE) for one in states)
    own = likelihoods[torch.arange(len(NEXT)), TARGETS]
    found = next_item(states, ITEMS, TARGETS, TEMPERATURE)
    torch.testing.assert_close(found, -(own / likelihoods.sum(1)).log().mean())


def test_our_contrast_leaves_false_negatives_out() -> None:
    """By loops, both directions of their own negatives."""
    total = 0.0
    for states, others in ((FIRST, SECOND), (SECOND, FIRST)):
        for row in range(len(NEXT)):
            allowed = [other for other in range(len(NEXT)) if other == row or NEXT[other] != NEXT[row]]
            across = [torch.exp(states[row] @ others[other] / TEMPERATURE) for other in allowed]
            inside = [torch.exp(states[row] @ states[other] / TEMPERATURE) for other in allowed if other != row]
            own = torch.exp(states[row] @ others[row] / TEMPERATURE)
            total -= float((own / (sum(across) + sum(inside))).log()) / len(NEXT) / 2
    assert float(cross_modal(FIRST, SECOND, SAME, TEMPERATURE)) == pytest.approx(total, rel=1e-5)


def test_without_false_negatives_published_and_ours_differ_by_the_second_direction_alone() -> None:
    none = torch.zeros_like(SAME)
    ours, published = (loss(FIRST, SECOND, none, TEMPERATURE) for loss in (cross_modal, published_cross_modal))
    assert not torch.isclose(ours, published)
    symmetric = FIRST, FIRST, none, TEMPERATURE
    torch.testing.assert_close(cross_modal(*symmetric), published_cross_modal(*symmetric))
