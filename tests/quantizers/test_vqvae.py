"""What VQ-VAE and FSQ do beyond the contract."""

import pytest
import torch

from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.quantizers.fsq import Fsq, FsqConfig
from modalrec.quantizers.vqvae import Vqvae, VqvaeConfig
from modalrec.testing.quantizers import DIMENSION, mixture, relative_error

VQVAE = VqvaeConfig(slots=3, codebook_size=16, width=5, hidden=(32,))


@pytest.mark.parametrize("shared", [False, True])
def test_slots_come_back_in_their_places(shared: bool) -> None:
    torch.manual_seed(0)
    quantizer = Vqvae(VQVAE.model_copy(update={"shared": shared}), DIMENSION)
    hidden_NW = torch.randn(50, 15)
    assert len(quantizer.codebooks.codes_LVW) == (1 if shared else 3)
    torch.testing.assert_close(quantizer._joined(quantizer._by_codebook(hidden_NW), 50), hidden_NW)
    codes_NL = torch.randint(16, (50, 3))
    assert torch.equal(quantizer.choose(quantizer.stand_for(codes_NL)), codes_NL)


def test_losses_of_slots_by_hand() -> None:
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = Vqvae(VQVAE, DIMENSION)
    quantizer.initialise(vectors_ND)
    losses = quantizer.eval().loss(vectors_ND)
    inputs_NC = quantizer.inputs(vectors_ND)
    hidden_NW = quantizer.encoder(inputs_NC)
    coded_NW = quantizer.stand_for(quantizer.encode(vectors_ND))
    squares = (hidden_NW - coded_NW).pow(2).sum().item() / inputs_NC.numel()
    reconstruction = (quantizer.decoder(coded_NW) - inputs_NC).pow(2).mean().item()
    assert losses["loss"].item() == pytest.approx(reconstruction + 1.25 * squares, rel=1e-4)


@pytest.mark.parametrize("grid", [[2], [5, 4], [8, 6, 5]])
def test_grid_points_are_codes_and_back(grid: list[int]) -> None:
    torch.manual_seed(0)
    quantizer = Fsq(resolve(FsqConfig, {"levels": 2, "grid": grid, "hidden": [32]}), DIMENSION)
    size = quantizer.codebook_sizes[0]
    codes_NL = torch.stack([torch.arange(size), torch.arange(size).flip(0)], 1)
    hidden_NW = quantizer.stand_for(codes_NL)
    assert len(hidden_NW.unique(dim=0)) == size
    assert torch.equal(quantizer.choose(hidden_NW), codes_NL)
    far = quantizer.choose(torch.full((1, 2 * len(grid)), 1e6))
    assert far.tolist() == [[size - 1, size - 1]]


def test_rounding_passes_gradients() -> None:
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = Fsq(FsqConfig(levels=2, grid=(8, 6, 5), hidden=(32,)), DIMENSION)
    quantizer.initialise(vectors_ND)
    quantizer.loss(vectors_ND)["loss"].backward()
    assert quantizer.encoder.linear.weight.grad is not None
    assert quantizer.encoder.linear.weight.grad.abs().sum() > 0
    assert relative_error(quantizer, vectors_ND) < 0.8


def test_a_grid_of_one_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.1: Input should be greater than or equal to 2"):
        resolve(FsqConfig, {"grid": [8, 1]})
