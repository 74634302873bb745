import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from modalrec.training.rows import collate
from tests.recommenders.din_cases import HISTORY, ROWS, small_target_case


def test_log_odds_loss_and_gradients_are_the_winners() -> None:
    """Rows with a history; what becomes of one without differs there, see the README of the references."""
    recorded = json.loads((Path(__file__).parents[1] / "reference" / "target_transformer.json").read_bytes())
    model, rows = small_target_case()
    places = np.flatnonzero((rows.ends > rows.begins)[:ROWS])
    batch = collate(rows, places, HISTORY, "click")
    predicted_B = model.train()(batch)
    torch.testing.assert_close(predicted_B, torch.tensor(recorded["log_odds"]), rtol=1e-4, atol=1e-5)
    loss = F.binary_cross_entropy_with_logits(predicted_B, batch["label"])
    np.testing.assert_allclose(loss.item(), recorded["loss"], rtol=1e-5)
    loss.backward()
    norms = {name: float(one.grad.norm()) for name, one in model.named_parameters() if name in recorded["gradients"]}
    assert norms.keys() == recorded["gradients"].keys()
    for name, norm in recorded["gradients"].items():
        np.testing.assert_allclose(norms[name], norm, rtol=1e-3, atol=1e-6, err_msg=name)


def test_a_row_without_history_is_its_target_alone() -> None:
    model, rows = small_target_case()
    places = np.flatnonzero(rows.ends == rows.begins)
    batch = collate(rows, places, HISTORY, "click")
    items_UD = model.fields.items(batch)
    history_BX = model._history(items_UD, items_UD[batch["target"]], batch)
    last = model.config.last * 2 * items_UD.shape[1]
    assert not history_BX[:, :last].any()
    torch.testing.assert_close(history_BX[:, last:], model.pooled.bias.expand(len(places), -1))
