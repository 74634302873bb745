"""The features of GRU4Rec that other files do not show: layers, initialisation, momentum, early stopping, content."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modalrec.config import resolve
from modalrec.errors import ConfigError, TrainingError
from modalrec.recommenders import ItemSpace, load_recommender, save_recommender
from modalrec.recommenders._gru4rec_init import content_directions
from modalrec.recommenders.gru4rec import GRU4Rec, GRU4RecConfig
from modalrec.run import Run
from modalrec.training.loop import TrainingConfig, fit
from tests.recommenders.gru4rec_cases import BOTH, build, learn, small_sessions, start, trained, uniform

QUIET = Run("test", device="cpu", quiet=True)
PLAIN = {"batch_size": 8, "learning_rate": 0.05, "schedule": "constant", "weight_decay": 0, "clip_norm": 0}
MODES = [
    (mode, engine)
    for mode in ("constrained", "separate", "none")
    for engine in BOTH
    if (mode, engine) != ("none", "fused")
]


@pytest.mark.parametrize("layers", [[5], [7, 7], [9, 4], [3, 8, 5, 6]])
@pytest.mark.parametrize(("mode", "engine"), MODES)
def test_any_number_of_layers_of_any_widths(layers: list[int], mode: str, engine: str) -> None:
    train = small_sessions()
    model, losses = trained(train, 8, rate=0.1, chunk=16, layers=layers, embedding=mode, engine=engine)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert model.item_vectors.shape == (train.n_items, layers[-1])
    top = model.eval().recommend([np.array([1, 2], np.int32)], 5, mask_seen=True)
    assert len(set(top.items[0].tolist()) - {1, 2}) == 5


@pytest.mark.parametrize(("mode", "engine"), MODES)
@pytest.mark.parametrize("loss", ["cross-entropy", "bpr-max"])
def test_both_losses_learn_in_all_embedding_modes(mode: str, engine: str, loss: str) -> None:
    losses = trained(small_sessions(), 10, chunk=64, rate=0.1, loss=loss, embedding=mode, engine=engine)[1]
    assert losses[-1] < 0.95 * losses[0]


def test_several_epochs_are_equal_when_the_order_is_fixed() -> None:
    """At a rate of zero the loss of a step is the same in every epoch."""
    train = small_sessions()
    for engine in BOTH:
        model = build(train.n_items, n_sample=0, engine=engine)
        batches = model.batches(train, 8, 0, augment=False)
        losses = learn(start(model, train, 8), batches, 3 * len(batches.plan(0)), 0.0)
        assert losses == losses[: len(batches.plan(0))] * 3


@pytest.mark.parametrize("engine", BOTH)
def test_shuffled_session_order_trains_on_another_order_each_epoch(engine: str) -> None:
    train = small_sessions()
    model = build(train.n_items, n_sample=0, shuffle_sessions=True, engine=engine)
    batches = model.batches(train, 8, 0, augment=False)
    plans = [batches.build(epoch, 0, batches.plan(epoch)[0])["inputs"].tolist() for epoch in (0, 1)]
    assert plans[0] != plans[1]
    assert len(learn(start(model, train, 8), batches, 4, 0.05)) == 4


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("n_sample", [0, 5])
def test_a_batch_larger_than_the_number_of_sessions_trains(engine: str, n_sample: int) -> None:
    train = small_sessions(6)
    model = build(train.n_items, n_sample=n_sample, engine=engine)
    batches = model.batches(train, 500, 0, augment=False)
    assert np.isfinite(learn(start(model, train, 500), batches, 3, 0.05)).all()


@pytest.mark.parametrize("engine", BOTH)
def test_momentum_and_adagrad_touch_the_rows_of_a_step_alone(engine: str) -> None:
    """A row without a part in the step keeps its vector and its bias, though its velocity is not zero."""
    train = small_sessions(60, 60)
    model = build(train.n_items, momentum=0.9, n_sample=3, engine=engine)
    batches = model.batches(train, 4, 0, augment=False)
    batches.chunk = 1
    steps = start(model, train, 4)
    learn(steps, batches, 20, 0.05)
    before = model.item_vectors.detach().clone(), model.item_bias.detach().clone()
    batch = batches.build(0, 20, batches.plan(0)[20])
    steps.step(batch, 0.05)
    columns = set(batch["targets"].tolist()) | set(batch["samples"].flatten().tolist())
    touched = columns | set(batch["inputs"].tolist())
    moved = (model.item_vectors != before[0]).any(1).nonzero().flatten().tolist()
    assert set(moved) == touched
    assert len(touched) < train.n_items
    assert set((model.item_bias != before[1]).nonzero().flatten().tolist()) == columns


@pytest.mark.parametrize("engine", BOTH)
def test_momentum_changes_the_course(engine: str) -> None:
    losses = [trained(small_sessions(), 5, momentum=momentum, engine=engine)[1] for momentum in (0.0, 0.5)]
    assert losses[0][0] == losses[1][0]
    assert losses[0][-1] != losses[1][-1]


@pytest.mark.parametrize("engine", BOTH)
def test_dropped_state_is_carried_over_and_dropout_ends_with_training(engine: str) -> None:
    train = small_sessions()
    model = build(train.n_items, layers=[64], dropout_p_hidden=0.5, engine=engine)
    batches = model.batches(train, 8, 0, augment=False)
    batches.chunk = 5
    steps = start(model, train, 8)
    steps.step(batches.build(0, 0, batches.plan(0)[0]), 0.05)
    hidden = steps._hidden[0] if engine == "torch" else torch.from_numpy(steps._hidden)
    assert (hidden == 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    steps.finish()
    history = [np.array([1, 2, 3], np.int32)]
    states = [model.eval().prepare(history)[0] for _ in range(2)]
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != 0).all()


@pytest.mark.parametrize("shares", [(0.4, 0.0), (0.0, 0.4)])
def test_the_first_layer_of_embedding_none_is_dropped_as_an_embedding(shares: tuple[float, float]) -> None:
    """And the dropped value is its state, as in the authors' code."""
    model = build(20, layers=[400], embedding="none", dropout_p_embed=shares[0], dropout_p_hidden=shares[1])
    with torch.no_grad():
        top, hidden = model.advance(model.input_rows(torch.tensor([3, 4])), model.fresh(2))
    assert torch.equal(top, hidden[0])
    assert (top == 0).float().mean().item() == pytest.approx(shares[0], abs=0.07)


def test_random_initialisation_has_the_bounds_of_each_gate() -> None:
    for mode in ("constrained", "separate", "none"):
        torch.manual_seed(0)
        model = build(50, layers=[40, 30], embedding=mode, initialisation="random")
        blocks = [model.item_vectors]
        for cell in model.grus:
            blocks += [*cell.weight_ih.chunk(3), *cell.weight_hh.chunk(3)]
            assert not cell.bias_ih.any()
            assert not cell.bias_hh.any()
        if mode == "separate":
            blocks.append(model.input_vectors)
        if mode == "none":
            blocks += [*model.first.rows.chunk(3, 1), *model.first.reset_update.chunk(2, 1), model.first.candidate]
            assert not model.first.bias.any()
        for block in blocks:
            bound = math.sqrt(6 / sum(block.shape))
            assert 0.95 * bound < block.abs().max().item() <= bound
            assert block.mean().abs().item() < 0.1 * bound
        assert not model.item_bias.any()


def test_compatible_initialisation_of_a_large_table_is_one_stream() -> None:
    """It is drawn in parts, which change nothing."""
    model = build(70_000, layers=[2])
    rng = np.random.RandomState(42)
    for _ in range(6):
        rng.random_sample((2, 2))
    bound = np.float32(math.sqrt(6 / 70_002))
    wanted = rng.random_sample((70_000, 2)).astype(np.float32) * np.float32(2) * bound - bound
    np.testing.assert_array_equal(model.item_vectors.detach(), wanted)


@pytest.mark.parametrize("engine", BOTH)
def test_early_stopping_on_validation_keeps_the_best_epoch(engine: str) -> None:
    train = small_sessions()
    model = build(train.n_items, engine=engine)
    seen: list[torch.Tensor] = []

    def validate() -> dict[str, float]:
        assert not model.training
        seen.append(model.item_vectors.detach().clone())
        return {"mrr_20": [0.1, 0.4, 0.3, 0.2, 0.1, 0.9][len(seen) - 1]}

    batches = model.batches(train, 8, 0, augment=False)
    config = TrainingConfig(epochs=6, patience=2, **PLAIN)
    curves = fit(model, batches, config=config, run=QUIET, fingerprint="x", validate=validate, monitor="mrr_20")
    assert [entry["mrr_20"] for entry in curves] == [0.1, 0.4, 0.3, 0.2]
    assert torch.equal(model.item_vectors, seen[1])
    assert not torch.equal(seen[1], seen[3])


@pytest.mark.parametrize("engine", BOTH)
def test_loss_time_and_pace_of_an_epoch_are_reported(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    train = small_sessions()
    model = build(train.n_items, engine=engine)
    batches = model.batches(train, 8, 0, augment=False)
    speed: dict[str, float] = {}
    config = TrainingConfig(epochs=1, **PLAIN)
    curves = fit(model, batches, config=config, run=Run("test", device="cpu"), fingerprint="x", speed=speed)
    assert set(speed) == {"seconds_per_epoch", "batches_per_second", "events_per_second"}
    schedule = batches.schedule(0)
    ratio = speed["events_per_second"] / speed["batches_per_second"]
    assert ratio == pytest.approx(schedule.offsets[-1] / len(schedule), rel=0.02)
    said = capsys.readouterr().err
    assert f"epoch 1: loss {curves[0]['loss']:.4f}" in said
    assert "batches/s" in said
    assert "events/s" in said


@pytest.mark.parametrize(("mode", "engine"), MODES)
def test_save_and_load_after_training(tmp_path: Path, mode: str, engine: str) -> None:
    train = small_sessions()
    model = trained(train, 3, chunk=64, layers=[8, 6], embedding=mode, momentum=0.2, engine=engine)[0].eval()
    save_recommender(tmp_path, model)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json", ".parquet"}
    loaded = load_recommender(tmp_path)
    histories = [train.items[begin:end] for begin, end in zip(train.offsets, train.offsets[1:], strict=False)]
    before, after = (each.recommend(histories, 5, mask_seen=False) for each in (model, loaded))
    np.testing.assert_array_equal(before.items, after.items)
    np.testing.assert_array_equal(before.scores, after.scores)


@pytest.mark.parametrize("engine", BOTH)
def test_training_goes_on_from_a_loaded_model(tmp_path: Path, engine: str) -> None:
    train = small_sessions()
    model, losses = trained(train, 6, chunk=64, rate=0.1, engine=engine)
    save_recommender(tmp_path, model)
    loaded = load_recommender(tmp_path).train()
    batches = loaded.batches(train, 8, 0, augment=False)
    assert learn(start(loaded, train, 8), batches, 1, 0.1)[0] < losses[0]


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["item_vectors", "item_bias", "input_vectors", "cells.0.weight_hh"])
def test_a_weight_that_is_not_finite_is_found(engine: str, value: float, where: str) -> None:
    train = small_sessions()
    model = build(train.n_items, embedding="separate", engine=engine)
    batches = model.batches(train, 8, 0, augment=False)
    steps = start(model, train, 8)
    model.get_parameter(where).data.flatten()[0:1].fill_(value)
    model.get_parameter(where).data[(0,) * model.get_parameter(where).dim()] = value
    with pytest.raises(TrainingError, match="loss"):
        learn(steps, batches, 3, 0.05)


@pytest.mark.parametrize("field", ["weight_decay", "clip_norm"])
def test_weight_decay_and_clipping_are_refused(field: str) -> None:
    train = small_sessions()
    model = build(train.n_items)
    model.batches(train, 8, 0, augment=False)
    settings: dict[str, Any] = {**PLAIN, field: 0.5}
    with pytest.raises(ConfigError, match=rf"training.{field}: gru4rec trains with plain Adagrad; set it to 0"):
        model.steps(TrainingConfig(**settings), 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": []},
        {"layers": [0]},
        {"embedding_size": 5},
        {"dropout_p_hidden": 1.0},
        {"bptt": 0},
        {"sample_store_size": 0},
        {"momentum": 1.0},
        {"elu_param": -1},
        {"loss": "top1"},
        {"n_samples": 5},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        resolve(GRU4RecConfig, settings)


# Content.


def space(n: int, content_ND: np.ndarray | None) -> ItemSpace:
    names = [str(item) for item in range(n)]
    return ItemSpace(names, names, content=content_ND)


def similar(n: int, dimension: int = 6) -> np.ndarray:
    """Vectors whose last item is nearly the first one, and whose last but one is zero."""
    content_ND = (uniform(4, n, dimension) - 0.5).astype(np.float32)
    content_ND[-1] = content_ND[0] * 1.01
    content_ND[-2] = 0
    return content_ND


@pytest.mark.parametrize("mode", ["constrained", "separate", "none"])
def test_content_sum_gives_cold_items_a_vector(mode: str, tmp_path: Path) -> None:
    """An item without events has what its content says, near an item of like content; without, nothing."""
    train = small_sessions()
    n = train.n_items + 2
    wider = type(train)(train.items, train.offsets, train.split, n, train.split_name, train.starts)
    torch.manual_seed(0)
    model = GRU4Rec(
        resolve(GRU4RecConfig, {"layers": [16], "content": "sum", "embedding": mode, "n_sample": 16}),
        space(n, similar(n)),
    )
    batches = model.batches(wider, 8, 0, augment=False)
    fit(model, batches, config=TrainingConfig(epochs=3, **PLAIN), run=QUIET, fingerprint="x")
    assert not model.item_vectors[-2:].any()
    vectors_ND, bias_N = model.prepare([np.array([1], np.int32)])[1]
    assert not vectors_ND[-2].any()
    own_D = model.content[0] @ model.content_weight
    assert torch.cosine_similarity(torch.from_numpy(vectors_ND[-1]), own_D, dim=0) > 0.999
    np.testing.assert_allclose(vectors_ND[0], (model.item_vectors[0] + own_D).detach(), rtol=1e-5, atol=1e-6)
    assert bias_N[-1] == 0
    top = model.recommend([np.array([n - 1, 2], np.int32)], 4, mask_seen=False)
    assert np.isfinite(top.scores).all()
    save_recommender(tmp_path, model)
    again = load_recommender(tmp_path).recommend([np.array([n - 1, 2], np.int32)], 4, mask_seen=False)
    np.testing.assert_array_equal(again.items, top.items)
    np.testing.assert_allclose(again.scores, top.scores, rtol=1e-6)


@pytest.mark.parametrize("engine", BOTH)
def test_content_initialise_starts_items_from_their_content_and_is_served_without_it(
    engine: str, tmp_path: Path
) -> None:
    train = small_sessions()
    n = train.n_items + 2
    wider = type(train)(train.items, train.offsets, train.split, n, train.split_name, train.starts)
    content_ND = similar(n)
    config = resolve(GRU4RecConfig, {"layers": [16], "content": "initialise", "n_sample": 16, "engine": engine})
    model, without = GRU4Rec(config, space(n, content_ND)), build(n)
    assert torch.cosine_similarity(model.item_vectors[0], model.item_vectors[-1], dim=0) > 0.99
    assert torch.equal(model.item_vectors[-2], without.item_vectors[-2]), "without content: the usual first vector"
    assert model.item_vectors[:-2].norm(dim=1).mean().item() == pytest.approx(
        without.item_vectors[:-2].norm(dim=1).mean().item(), rel=0.15
    )
    cold_D = model.item_vectors[-1].detach().clone()
    batches = model.batches(wider, 8, 0, augment=False)
    fit(model, batches, config=TrainingConfig(epochs=2, **PLAIN), run=QUIET, fingerprint="x")
    assert torch.equal(model.item_vectors[-1], cold_D)
    save_recommender(tmp_path, model)
    loaded = load_recommender(tmp_path)
    assert loaded.items.content is None
    np.testing.assert_array_equal(
        loaded.recommend([np.array([1, 2], np.int32)], 5, mask_seen=True).items,
        model.recommend([np.array([1, 2], np.int32)], 5, mask_seen=True).items,
    )


def test_content_directions_are_principal_components_of_one_length() -> None:
    content_NV = np.concatenate([uniform(1, 40, 5) * [9, 1, 3, 0.1, 5], np.zeros((2, 5))]).astype(np.float32)
    found_NK = content_directions(content_NV, 3)
    np.testing.assert_allclose(np.linalg.norm(found_NK[:40], axis=1), math.sqrt(3), rtol=1e-5)
    assert not found_NK[40:].any()
    centred = content_NV[:40] - content_NV[:40].mean(0)
    main = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    main *= math.sqrt(3) / np.linalg.norm(main, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(found_NK[:40]), np.abs(main), rtol=1e-3, atol=1e-3)
    assert content_directions(content_NV, 9).shape == (42, 9)
    assert not content_directions(content_NV, 9)[:, 5:].any()


def test_content_needs_embeddings() -> None:
    for content in ("initialise", "sum"):
        assert GRU4Rec.edges(resolve(GRU4RecConfig, {"content": content})) == {"embeddings"}
    assert GRU4Rec.edges(resolve(GRU4RecConfig, {})) == frozenset()
    with pytest.raises(ConfigError, match="content=sum: needs the items' vectors; give --embeddings"):
        build(5, content="sum")
