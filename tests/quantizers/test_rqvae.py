"""What RQ-VAE does beyond the contract."""

from pathlib import Path

import pytest
import torch

from modalrec.errors import ArtifactError
from modalrec.quantizers import load_quantizer, save_quantizer
from modalrec.quantizers.rqvae import Rqvae, RqvaeConfig
from modalrec.testing.quantizers import DIMENSION, mixture, relative_error
from modalrec.training.kmeans import kmeans

CONFIG = RqvaeConfig(levels=3, codebook_size=16, width=16, hidden=(32,), revive_after=3)


def initialised(config: RqvaeConfig = CONFIG) -> tuple[Rqvae, torch.Tensor]:
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = Rqvae(config, DIMENSION)
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
    hidden_NW = quantizer.encoder(quantizer._inputs(vectors_ND)).detach()
    left = [float(residuals_NW.pow(2).sum()) for _, residuals_NW, _ in quantizer._levels(hidden_NW)]
    assert left[0] > left[1] > left[2]


def test_losses_by_hand() -> None:
    """The formula of the module's text, from codes and networks."""
    quantizer, vectors_ND = initialised()
    losses = quantizer.eval().loss(vectors_ND)
    codes_NL = quantizer.encode(vectors_ND)
    inputs_NC = quantizer._inputs(vectors_ND)
    residuals_NW = quantizer.encoder(inputs_NC)
    summed_NW, squares = torch.zeros_like(residuals_NW), 0.0
    for level in range(3):
        codes_NW = quantizer.codebooks_LVW[level, codes_NL[:, level]]
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
    assert quantizer.codebooks_LVW.grad is None


def test_dead_codes_come_back_to_life() -> None:
    quantizer, vectors_ND = initialised()
    with torch.no_grad():
        quantizer.codebooks_LVW[:, 4:] = 1000.0
    quantizer.train()
    for batch in range(12):
        quantizer.loss(vectors_ND[batch * 30 : batch * 30 + 30])
    used = [len(column.unique()) for column in quantizer.encode(vectors_ND).T]
    assert min(used) >= 14


def test_codes_in_use_are_left_alone() -> None:
    quantizer, vectors_ND = initialised()
    quantizer.train()
    before = quantizer.codebooks_LVW.detach().clone()
    for _ in range(10):
        quantizer.loss(vectors_ND)
    assert torch.equal(quantizer.codebooks_LVW, before)


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
    save_quantizer(other, Rqvae(CONFIG.model_copy(update={"width": 8}), DIMENSION), [16, 16, 16, 1])
    (tmp_path / "quantizer.safetensors").write_bytes((other / "quantizer.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match="size mismatch"):
        load_quantizer(tmp_path)
