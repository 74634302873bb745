"""What RQ-VAE does beyond the contract."""

import copy
from pathlib import Path

import pytest
import torch

from modalrec.config import resolve
from modalrec.errors import ArtifactError, ConfigError
from modalrec.quantizers import load_quantizer, save_quantizer
from modalrec.quantizers._networks import Dropout
from modalrec.quantizers.rqvae import RQVAE, RQVAEConfig
from modalrec.testing.quantizers import DIMENSION, mixture, relative_error
from modalrec.training.kmeans import kmeans

CONFIG = RQVAEConfig(levels=3, codebook_size=16, width=16, hidden=(32,), revive_after=3)


def initialised(config: RQVAEConfig = CONFIG) -> tuple[RQVAE, torch.Tensor]:
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = RQVAE(config, DIMENSION)
    quantizer.initialise(vectors_ND)
    return quantizer, vectors_ND


def test_starts_about_as_good_as_residual_k_means() -> None:
    quantizer, vectors_ND = initialised()
    residuals_ND = vectors_ND - vectors_ND.mean(0)
    variance = residuals_ND.pow(2).sum()
    for _ in range(3):
        clusters = kmeans(residuals_ND, 16)
        residuals_ND = residuals_ND - clusters.centres_VD[clusters.labels_N]
    assert relative_error(quantizer, vectors_ND) < 1.25 * float(residuals_ND.pow(2).sum() / variance)


def test_each_level_codes_what_the_earlier_ones_left() -> None:
    quantizer, vectors_ND = initialised()
    hidden_NW = quantizer.encoder(quantizer.inputs(vectors_ND)).detach()
    codes_NL = quantizer.encode(vectors_ND)
    left = [float(hidden_NW.pow(2).sum())]
    for level in range(3):
        hidden_NW = hidden_NW - quantizer.codebooks.codes_LVW[level, codes_NL[:, level]].detach()
        left.append(float(hidden_NW.pow(2).sum()))
    assert left[0] > left[1] > left[2] > left[3]


def test_losses_by_hand() -> None:
    """The formula of the module's text, from codes and networks."""
    quantizer, vectors_ND = initialised()
    losses = quantizer.eval().loss(vectors_ND)
    codes_NL = quantizer.encode(vectors_ND)
    inputs_NC = quantizer.inputs(vectors_ND)
    residuals_NW = quantizer.encoder(inputs_NC)
    summed_NW, squares = torch.zeros_like(residuals_NW), 0.0
    for level in range(3):
        codes_NW = quantizer.codebooks.codes_LVW[level, codes_NL[:, level]]
        squares += (residuals_NW - codes_NW).pow(2).sum().item() / inputs_NC.numel()
        summed_NW, residuals_NW = summed_NW + codes_NW, residuals_NW - codes_NW
    reconstruction = (quantizer.decoder(summed_NW) - inputs_NC).pow(2).mean().item()
    assert losses["reconstruction"].item() == pytest.approx(reconstruction, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(reconstruction + 1.25 * squares, rel=1e-4)


def test_gradients_pass_straight_through_to_the_encoder() -> None:
    quantizer, vectors_ND = initialised()
    quantizer.loss(vectors_ND)["reconstruction"].backward()
    assert quantizer.encoder.linear.weight.grad is not None
    assert quantizer.encoder.linear.weight.grad.abs().sum() > 0
    assert quantizer.codebooks.codes_LVW.grad is None


def test_dead_codes_come_back_to_life() -> None:
    quantizer, vectors_ND = initialised()
    with torch.no_grad():
        quantizer.codebooks.codes_LVW[:, 4:] = 1000.0
    quantizer.train()
    for batch in range(12):
        quantizer.loss(vectors_ND[batch * 30 : batch * 30 + 30])
    used = [len(column.unique()) for column in quantizer.encode(vectors_ND).T]
    assert min(used) >= 14


def test_codes_in_use_are_left_alone() -> None:
    quantizer, vectors_ND = initialised()
    quantizer.train()
    before = quantizer.codebooks.codes_LVW.detach().clone()
    for _ in range(10):
        quantizer.loss(vectors_ND)
    assert torch.equal(quantizer.codebooks.codes_LVW, before)


def test_vectors_longer_than_the_components() -> None:
    config = CONFIG.model_copy(update={"components": 6})
    quantizer, vectors_ND = initialised(config)
    assert quantizer.decode(quantizer.encode(vectors_ND)).shape == vectors_ND.shape
    assert relative_error(quantizer, vectors_ND) < 0.5


def test_damaged_folder_is_refused(tmp_path: Path) -> None:
    quantizer, _ = initialised()
    save_quantizer(tmp_path, quantizer, [16, 16, 16, 1])
    weights = (tmp_path / "quantizer.safetensors").read_bytes()
    (tmp_path / "quantizer.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ArtifactError, match="run `quantize` again"):
        load_quantizer(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    save_quantizer(other, RQVAE(CONFIG.model_copy(update={"width": 8}), DIMENSION), [16, 16, 16, 1])
    (tmp_path / "quantizer.safetensors").write_bytes((other / "quantizer.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="size mismatch"):
        load_quantizer(tmp_path)


def ema(**settings: float) -> RQVAEConfig:
    return CONFIG.model_copy(update={"learning": "ema", "restart_below": 0.0, **settings})


def test_averages_by_hand() -> None:
    """Counts and sums decay, and codes are their ratio; codes outside the batch keep their place."""
    quantizer, vectors_ND = initialised(ema(decay=0.9, levels=1))
    books = quantizer.codebooks
    hidden_NW = quantizer.encoder(quantizer.inputs(vectors_ND[:50])).detach()
    labels_N = books.nearest(0, hidden_NW)
    before_VW = books.codes_LVW[0].clone()
    quantizer.train().loss(vectors_ND[:50])
    one_hot_NV = torch.nn.functional.one_hot(labels_N, 16).float()
    counts_V = 0.9 + 0.1 * one_hot_NV.sum(0)
    sums_VW = 0.9 * before_VW + 0.1 * one_hot_NV.T @ hidden_NW
    torch.testing.assert_close(books.counts_LV[0], counts_V)
    torch.testing.assert_close(books.codes_LVW[0], sums_VW / counts_V[:, None], rtol=1e-3, atol=1e-4)


def test_averages_that_nothing_feeds_restart() -> None:
    quantizer, vectors_ND = initialised(ema(restart_below=0.5, decay=0.5))
    quantizer.codebooks.codes_LVW[:, 4:] = 1000.0
    quantizer.codebooks.sums_LVW[:, 4:] = 1000.0
    quantizer.train()
    for batch in range(3):
        quantizer.loss(vectors_ND[batch * 100 : batch * 100 + 100])
    assert float(quantizer.codebooks.codes_LVW.abs().max()) < 100


def test_averages_have_no_codebook_term() -> None:
    quantizer, vectors_ND = initialised(ema())
    losses = quantizer.eval().loss(vectors_ND)
    inputs_NC = quantizer.inputs(vectors_ND)
    residuals_NW, squares = quantizer.encoder(inputs_NC), 0.0
    for level, codes_N in enumerate(quantizer.encode(vectors_ND).T):
        residuals_NW = residuals_NW - quantizer.codebooks.codes_LVW[level, codes_N]
        squares += residuals_NW.pow(2).sum().item() / inputs_NC.numel()
    assert losses["loss"].item() == pytest.approx(losses["reconstruction"].item() + 0.25 * squares, rel=1e-4)


def test_cosine_ignores_the_length_of_codes() -> None:
    quantizer, vectors_ND = initialised(CONFIG.model_copy(update={"distance": "cosine", "levels": 1}))
    before = quantizer.encode(vectors_ND)
    with torch.no_grad():
        quantizer.codebooks.codes_LVW *= torch.linspace(0.1, 5, 16)[None, :, None]
    assert torch.equal(quantizer.encode(vectors_ND), before)


def test_sinkhorn_uses_the_last_level_evenly_in_training() -> None:
    quantizer, vectors_ND = initialised(CONFIG.model_copy(update={"sinkhorn": 0.003}))
    residuals_NW = quantizer.encoder(quantizer.inputs(vectors_ND)).detach()
    even = quantizer.train()._labels(2, residuals_NW).bincount(minlength=16)
    nearest = quantizer.eval()._labels(2, residuals_NW).bincount(minlength=16)
    assert even.max() <= 40 < nearest.max()


def test_alignment_brings_codes_near_the_partners_and_ignores_items_without() -> None:
    config = CONFIG.model_copy(update={"alignment": 1.0, "collaborative_width": 8})
    quantizer, vectors_ND = initialised(config)
    partners_NP = torch.nn.functional.normalize(vectors_ND[:, :8])
    partners_NP[::2] = 0
    batch = {"vectors": vectors_ND, "partners": partners_NP}
    before = quantizer.loss(batch)
    odd = quantizer.loss({"vectors": vectors_ND[1::2], "partners": partners_NP[1::2]})
    assert before["alignment"].item() == pytest.approx(odd["alignment"].item(), rel=1e-4)
    optimizer = torch.optim.Adam(quantizer.parameters(), 1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        losses = quantizer.loss(batch)
        losses["loss"].backward()
        optimizer.step()
    assert losses["alignment"] < before["alignment"] - 0.2
    assert "alignment" not in quantizer.loss(vectors_ND)
    nobody = quantizer.loss({"vectors": vectors_ND, "partners": torch.zeros(400, 8)})
    assert nobody["alignment"] == 0


def test_diversity_by_hand() -> None:
    """Two groups of two codes: the only mate of a code is the other one of its group."""
    config = CONFIG.model_copy(update={"codebook_size": 4, "levels": 1, "diversity": 0.5})
    quantizer, _ = initialised(config)
    books = quantizer.codebooks.eval()
    books.groups_LV[0] = torch.tensor([0, 0, 1, 1])
    labels_N = torch.tensor([0, 3])
    codes_VW = books.codes_LVW[0].detach()
    terms = []
    for code, mate in ((0, 1), (3, 2)):
        scores = torch.stack([codes_VW[code] @ codes_VW[other] for other in range(4) if other != code])
        terms.append(scores.logsumexp(0) - codes_VW[code] @ codes_VW[mate])
    found = books.diversity([(torch.zeros(2, 16), labels_N)])
    assert found is not None
    assert found.item() == pytest.approx(0.5 * float(sum(terms)) / 2, rel=1e-4)


def test_diversity_of_averages_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"diversity=0\.1 moves codes by gradient; set learning=gradient"):
        resolve(RQVAEConfig, {"learning": "ema", "diversity": 0.1})


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_products_of_all_levels_at_once_give_the_codes_of_residuals(distance: str) -> None:
    quantizer, _ = initialised(CONFIG.model_copy(update={"distance": distance}))
    hidden_NW = 2 * torch.randn(1000, 16)
    together = quantizer.choose(hidden_NW)  # more rows than the table pays for
    alone = torch.cat([quantizer.choose(part) for part in hidden_NW.split(10)])
    assert (together == alone).all(1).float().mean() > 0.995


def test_compiled_averages_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    start, vectors_ND = initialised(ema(restart_below=0.9))
    states = []
    for available in (True, False):
        monkeypatch.setattr("modalrec.compiled.AVAILABLE", available)
        quantizer = copy.deepcopy(start)
        torch.manual_seed(1)
        quantizer.train()
        for batch in vectors_ND.split(40):
            quantizer.loss(batch)
        states.append(quantizer.codebooks.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4)


def test_bfloat16_products_learn_the_same() -> None:
    errors = []
    for precision in ("float32", "bfloat16"):
        quantizer, vectors_ND = initialised(CONFIG.model_copy(update={"precision": precision}))
        optimizer = torch.optim.Adam(quantizer.train().parameters(), 3e-3)
        for _ in range(30):
            optimizer.zero_grad()
            quantizer.loss(vectors_ND)["loss"].backward()
            optimizer.step()
        assert all(parameter.dtype == torch.float32 for parameter in quantizer.parameters())
        errors.append(relative_error(quantizer.eval(), vectors_ND))
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_dropout_takes_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout, ones = Dropout(0.3).train(), torch.ones(501, 403)
    found = dropout(ones)
    assert float((found == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(found.mean()) == pytest.approx(1, abs=0.01)
    assert not torch.equal(found, dropout(ones))
    assert torch.equal(dropout.eval()(ones), ones)
