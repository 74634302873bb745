"""What VQ-VAE and FSQ do beyond the contract."""

import json
from pathlib import Path

import pytest
import torch

from modalrec.config import load_preset, resolve
from modalrec.errors import ConfigError
from modalrec.quantizers.fsq import FSQ, FSQConfig
from modalrec.quantizers.vqvae import VQVAE, VQVAEConfig
from modalrec.stages.quantize import Config
from modalrec.testing.quantizers import DIMENSION, mixture, relative_error

SMALL = VQVAEConfig(slots=3, codebook_size=16, width=5, hidden=(32,))


REFERENCE = Path(__file__).parents[1] / "reference" / "mmctr_vqvae.json"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_slots_come_back_in_their_places(shared: bool, linear: bool) -> None:
    torch.manual_seed(0)
    quantizer = VQVAE(SMALL.model_copy(update={"shared": shared, "linear": linear}), DIMENSION)
    hidden_NW = torch.randn(50, 15)
    assert len(quantizer.codebooks.codes_LVW) == (1 if shared else 3)
    torch.testing.assert_close(quantizer._joined(quantizer._by_codebook(hidden_NW), 50), hidden_NW)
    codes_NL = torch.randint(16, (50, 3))
    assert torch.equal(quantizer.choose(quantizer.stand_for(codes_NL)), codes_NL)


def test_losses_of_slots_by_hand() -> None:
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = VQVAE(SMALL, DIMENSION)
    quantizer.initialise(vectors_ND)
    losses = quantizer.eval().loss(vectors_ND)
    inputs_NC = quantizer.inputs(vectors_ND)
    hidden_NW = quantizer.encoder(inputs_NC)
    coded_NW = quantizer.stand_for(quantizer.encode(vectors_ND))
    squares = (hidden_NW - coded_NW).pow(2).sum().item() / inputs_NC.numel()
    reconstruction = (quantizer.decoder(coded_NW) - inputs_NC).pow(2).mean().item()
    assert losses["loss"].item() == pytest.approx(reconstruction + 1.25 * squares, rel=1e-4)


def test_loss_gradients_and_codes_are_those_of_the_published_code() -> None:
    """Of github.com/Hsyy04/WWW25MMCTR, on 8 vectors and 3 slots of 7 codes; see tests/reference/README.md."""
    written = json.loads(REFERENCE.read_bytes())
    small = {"slots": 3, "width": 4, "codebook_size": 7, "hidden": [5], "dropout": 0.0}
    published = load_preset("mmctr_vqvae")["quantize"]["quantizer"]
    quantizer = VQVAE(resolve(VQVAEConfig, published, small), 6)
    state = quantizer.state_dict()
    for name, numbers in written["state"].items():
        state[name].copy_(torch.tensor(numbers).view(state[name].shape))
    vectors_ND = torch.tensor(written["vectors"]).view(8, 6)
    losses = quantizer.eval().loss(vectors_ND)
    losses["loss"].backward()
    assert quantizer.encode(vectors_ND).tolist() == written["codes"]
    assert losses["loss"].item() == pytest.approx(written["loss"], rel=1e-5)
    assert losses["reconstruction"].item() == pytest.approx(written["reconstruction"], rel=1e-5)
    found = dict(quantizer.named_parameters())
    assert set(found) == set(written["gradients"])
    for name, numbers in written["gradients"].items():
        torch.testing.assert_close(found[name].grad.flatten(), torch.tensor(numbers), rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]


def test_the_published_preset_is_the_published_one() -> None:
    quantizer = resolve(Config, load_preset("mmctr_vqvae")["quantize"]).quantizer
    with torch.device("meta"):
        built = VQVAE(quantizer, 1024)
    weights = {name: tuple(value.shape) for name, value in built.named_parameters() if value.dim() > 1}
    assert weights == {
        "encoder.perceptron.0.weight": (512, 1024),
        "encoder.perceptron.3.weight": (512 * 256, 512),
        "decoder.perceptron.0.weight": (512, 512 * 256),
        "decoder.perceptron.3.weight": (1024, 512),
        "codebooks.codes_LVW": (1, 1024, 256),
    }
    assert built.codebook_sizes == [1024] * 512
    assert built.shares_codebook


def test_many_slots_are_coded_in_blocks_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide hidden vectors make fewer rows a block; blocks change nothing."""
    torch.manual_seed(0)
    vectors_ND, _ = mixture()
    quantizer = VQVAE(SMALL.model_copy(update={"shared": True, "initialisation": "uniform"}), DIMENSION)
    quantizer.initialise(vectors_ND)
    codes_NL = quantizer.encode(vectors_ND)
    rows: list[int] = []
    choose = quantizer.choose
    monkeypatch.setattr("modalrec.quantizers._autoencoder.BLOCK_NUMBERS", 15 * 64)
    monkeypatch.setattr(quantizer, "choose", lambda hidden: (rows.append(len(hidden)), choose(hidden))[1])
    assert torch.equal(quantizer.encode(vectors_ND), codes_NL)
    assert rows == [64] * 6 + [16]
    torch.testing.assert_close(quantizer.decode(codes_NL)[7:9], quantizer.decode(codes_NL[7:9]))
    monkeypatch.setattr("modalrec.quantizers._autoencoder.FIRST_NUMBERS", 15 * 20)
    seen: list[int] = []
    monkeypatch.setattr(quantizer, "fit_codes", lambda hidden: seen.append(len(hidden)))
    quantizer.initialise(vectors_ND)
    assert seen == [20]


def test_codes_start_between_small_numbers() -> None:
    torch.manual_seed(0)
    codes_LVW = VQVAE(SMALL.model_copy(update={"initialisation": "uniform"}), DIMENSION).codebooks.codes_LVW
    assert 0.9 / 16 < codes_LVW.abs().max() <= 1 / 16


@pytest.mark.parametrize("grid", [[2], [5, 4], [8, 6, 5]])
def test_grid_points_are_codes_and_back(grid: list[int]) -> None:
    torch.manual_seed(0)
    quantizer = FSQ(resolve(FSQConfig, {"levels": 2, "grid": grid, "hidden": [32]}), DIMENSION)
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
    quantizer = FSQ(FSQConfig(levels=2, grid=(8, 6, 5), hidden=(32,)), DIMENSION)
    quantizer.initialise(vectors_ND)
    quantizer.loss(vectors_ND)["loss"].backward()
    assert quantizer.encoder.linear.weight.grad is not None
    assert quantizer.encoder.linear.weight.grad.abs().sum() > 0
    assert relative_error(quantizer, vectors_ND) < 0.8


def test_a_grid_of_one_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid.1: Input should be greater than or equal to 2"):
        resolve(FSQConfig, {"grid": [8, 1]})
