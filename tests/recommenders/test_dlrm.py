import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.data.moments import of_owner
from modalrec.data.splits import TRAIN
from modalrec.recommenders import load_recommender, save_recommender
from modalrec.recommenders._dlrm_parts import Concat, Dots, Modality, layers, start_table
from modalrec.recommenders.dlrm import DLRM, DLRMConfig
from modalrec.testing.rows import taste_rows, taste_space, tastes
from modalrec.training.loop import TrainingConfig
from modalrec.training.rows import collate
from modalrec.training.tables import TableSteps
from tests.recommenders import dlrm_cases as case

RECORDED = json.loads((Path(__file__).parents[1] / "reference" / "dlrm.json").read_bytes())


def small(**settings: Any) -> tuple[DLRM, dict[str, Tensor]]:
    """A model with texts for most items and pictures for some, and a batch."""
    rows = taste_rows(tastes())
    space = taste_space(tastes(), rows)
    vectors_NV = np.random.default_rng(0).standard_normal((len(space), 5)).astype(np.float32)
    lists = [VectorLists.single(vectors_NV, np.arange(len(space)) % step > 0) for step in (5, 2)]
    torch.manual_seed(0)
    chosen = {"width": 4, "bottom": [6], "top": [8], "dropout": 0.0, "id_dropout": 0.0, **settings}
    model = DLRM(resolve(DLRMConfig, chosen), replace(space, text=lists[0], image=lists[1]))
    return model, collate(rows, rows.of(TRAIN, "click")[:40], 0, model.task)


def test_interactions_and_what_is_said_are_those_of_the_published_code() -> None:
    count = 1 + len(case.TABLES)
    bottom, dots = layers(case.DENSE, case.BOTTOM), Dots(count, case.WIDTH, has_bottom=True)
    top = nn.Sequential(*layers(dots.outputs, case.TOP[:-1]), nn.Linear(case.TOP[-2], 1))
    case.fill(bottom, 1)
    case.fill(top, 30)
    looked_up = [table[ids] for table, ids in zip(case.tables(), case.ids(), strict=True)]
    vectors_BFD = torch.stack([bottom(case.numbers()), *looked_up], 1)
    torch.testing.assert_close(dots(vectors_BFD), torch.tensor(RECORDED["dot"]))
    torch.testing.assert_close(Concat(count, case.WIDTH)(vectors_BFD), torch.tensor(RECORDED["cat"]))
    torch.testing.assert_close(top(dots(vectors_BFD))[:, 0].sigmoid(), torch.tensor(RECORDED["said"]))


def test_row_adagrad_is_that_of_the_published_code() -> None:
    class Given(nn.Module):
        """A table whose loss has given gradients."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.idle = nn.Embedding(*case.tables()[0].shape, sparse=True), nn.Parameter(torch.zeros(1))
            self.table.weight.data.copy_(case.tables()[0])

        def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": (self.table(batch["id"]) * batch["gradient"]).sum() + 0 * self.idle.sum()}

    model = Given()
    config = TrainingConfig(weight_decay=0.0, clip_norm=0.0)
    steps = TableSteps(model, [model.table], config, "row_adagrad", 0.0, scale=case.RATE / 0.01)
    for (ids, gradient), after in zip(case.gradients(), RECORDED["tables"], strict=True):
        steps.step({"id": ids, "gradient": gradient, "label": ids}, 0.01)
        torch.testing.assert_close(model.table.weight.detach(), torch.tensor(after))


def test_layers_and_tables_start_as_published() -> None:
    torch.manual_seed(0)
    layer = layers(300, [500])[0]
    assert abs(float(layer.weight.detach().std()) / (2 / 800) ** 0.5 - 1) < 0.02
    assert abs(float(layer.bias.detach().std()) / (1 / 500) ** 0.5 - 1) < 0.1
    table = nn.Embedding(400, 50)
    start_table(table)
    assert not table.weight[0].any()
    assert 0.99 * 400**-0.5 < table.weight.abs().max() <= 400**-0.5
    assert abs(float(table.weight.detach()[1:].std()) / (400**-0.5 / 3**0.5) - 1) < 0.02


@pytest.mark.parametrize("interaction", ["dot", "concat", "dcn_v2"])
def test_a_rating_is_the_mean_the_biases_and_what_the_crossed_vectors_say(interaction: str) -> None:
    model, batch = small(interaction=interaction)
    with torch.no_grad():
        for number, bias in enumerate(model.biases.values()):
            bias.weight.copy_(case.waves(*bias.weight.shape, number=number))
    predicted_B = model.eval()(batch)
    fields = model.fields
    row = 7
    item = int(batch["item"][batch["target"][row]])
    one = {"user": batch["user"][row : row + 1], "item": torch.tensor([item]), "target": torch.tensor([0])}
    one |= {key: batch[key][[row]] for key in ("row_hour",)} | {
        "event_views_level": batch["event_views_level"][batch["target"][[row]]]
    }
    vectors = [model.bottom(fields.numbers(one))[0]]
    vectors += fields.rows(one).view(-1, 4).unbind()
    vectors += fields.items(one).view(-1, 4).unbind()
    vectors += [model.modalities[name](torch.tensor([item]))[0] for name in ("text", "image")]
    crossed = model.interaction(torch.stack(vectors)[None])
    if interaction == "dot":
        pairs = [vectors[high] @ vectors[low] for high in range(len(vectors)) for low in range(high)]
        torch.testing.assert_close(crossed[0], torch.cat([vectors[0], torch.stack(pairs)]))
    ids = {owner: fields.get_buffer(f"{owner}_id_values") for owner in ("user", "item")}
    expected = model.last(model.top(crossed))[0, 0] + model.items.scales["rating"][0]
    expected = expected + model.biases["user"].weight[ids["user"][one["user"][0]], 0]
    expected = expected + model.biases["item"].weight[ids["item"][item], 0]
    torch.testing.assert_close(predicted_B[row], expected)


def test_an_item_without_a_vector_has_the_learnt_one() -> None:
    vectors_NV = np.random.default_rng(0).standard_normal((6, 5)).astype(np.float32)
    there_N = np.array([1, 1, 0, 1, 1, 0], bool)
    module = Modality(VectorLists.single(vectors_NV, there_N), 3, [], torch.ones(6, dtype=torch.bool))
    found_UD = module(torch.arange(6))
    assert torch.equal(found_UD[2], module.missing)
    assert torch.equal(found_UD[5], module.missing)
    assert not torch.equal(found_UD[0], module.missing)
    found_UD.sum().backward()
    assert module.missing.grad is not None
    assert module.missing.grad.tolist() == [2, 2, 2]
    assert module.projector[-1].weight.grad.any()


def test_a_saved_model_serves_without_the_vectors(tmp_path: Path) -> None:
    model, batch = small()
    predicted_B = model.eval().predict(batch)
    save_recommender(tmp_path, model)
    loaded = load_recommender(tmp_path)
    assert not len(loaded.modalities["text"].vectors)
    torch.testing.assert_close(loaded.predict(batch), predicted_B)


def test_dropped_ids_are_those_of_the_unknown_and_only_in_training() -> None:
    model, batch = small(id_dropout=0.5)
    with torch.no_grad():
        for bias in model.biases.values():
            bias.weight.fill_(3.0)
            bias.weight[0] = 0.0
    torch.manual_seed(1)
    ids = model.train()._with_ids(batch)
    share = float((ids["user_id"] == 0).float().mean())
    assert 0.2 < share < 0.8
    known = ids["user_id"] > 0
    assert torch.equal(ids["user_id"][known], model.fields.get_buffer("user_id_values")[batch["user"]][known])
    assert (model.eval()._with_ids(batch)["user_id"] > 0).all()


def test_nothing_is_known_at_the_moment_of_who_is_dropped() -> None:
    model, batch = small(id_dropout=0.5)
    for key in (*of_owner("user"), *of_owner("item")):
        batch[key] = torch.ones(len(batch["user"]))
    torch.manual_seed(1)
    found = model.train()._with_ids(batch)
    for owner, ids in (("user", found["user_id"]), ("item", found["item_id"][batch["target"]])):
        assert 0 < int((ids == 0).sum()) < len(ids)
        for key in of_owner(owner):
            assert torch.equal(found[key], (ids > 0).float()), key
    kept = model.eval()._with_ids(batch)
    assert all((kept[key] == 1).all() for key in (*of_owner("user"), *of_owner("item")))


def test_the_penalty_is_of_what_a_row_looks_up() -> None:
    model, batch = small(penalty=0.5, without=["content"])
    losses = model.loss(batch)
    whole = model.fields.rows(model._with_ids(batch)).square().sum(1).mean()
    items_UD = model.fields.items(model._with_ids(batch))
    whole = whole + items_UD.square().sum(1)[batch["target"]].mean()
    torch.testing.assert_close(losses["loss"], losses["error"] + 0.25 * whole)


def test_ratings_stay_within_those_that_training_has_seen_and_a_click_is_a_probability() -> None:
    model, batch = small()
    with torch.no_grad():
        model.last.bias.fill_(100.0)
    assert set(model.eval().predict(batch).tolist()) == {5.0}
    model, batch = small(head="click")
    share = model.items.scales["label"][0]
    assert abs(float(torch.tensor(model._mean()).sigmoid()) - share) < 1e-6
    assert ((model.eval().predict(batch) > 0) & (model.predict(batch) < 1)).all()
    assert set(batch["label"].tolist()) == {0.0, 1.0}


def test_modalities_that_are_left_out_are_not_asked_for() -> None:
    for without, edges in (
        ([], {"text_embeddings", "image_embeddings"}),
        (["text"], {"image_embeddings"}),
        (["content"], set()),
    ):
        config = resolve(DLRMConfig, {"without": without})
        assert DLRM.edges(config) == edges
    model, batch = small(without=["image", "row_hour"])
    assert list(model.modalities) == ["text"]
    assert [one.key for one in model.fields.number_fields] == ["item_age"]
    assert torch.isfinite(model.eval()(batch)).all()
