"""The contract of quantizers: what every plug-in must keep, for its author to inherit as tests.

A plug-in's author writes `class TestMine(QuantizerContract): plugin = Mine` and gets all of them.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from modalrec.config import Config, resolve
from modalrec.quantizers import Quantizer, load_quantizer, save_quantizer
from modalrec.run import Run
from modalrec.testing.configs import ConfigContract
from modalrec.training.loop import TrainingConfig, fit
from modalrec.training.vectors import VectorBatches

DIMENSION = 24


def mixture(n: int = 400, n_clusters: int = 8, seed: int = 0) -> tuple[Tensor, NDArray[np.int64]]:
    """Unit vectors [n, DIMENSION] around a few directions, and which one each belongs to."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_clusters, size=n)
    centres = rng.normal(size=(n_clusters, DIMENSION))
    vectors = centres[labels] + 0.3 * rng.normal(size=(n, DIMENSION))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(vectors.astype(np.float32)), labels


def purity(codes_NL: Tensor, labels: NDArray[np.int64]) -> float:
    """Share of the vectors whose cluster is the most frequent one of their tuple of codes."""
    _, groups = np.unique(codes_NL.numpy(), axis=0, return_inverse=True)
    table = np.zeros((groups.max() + 1, labels.max() + 1), np.int64)
    np.add.at(table, (groups.reshape(-1), labels), 1)
    return float(table.max(1).sum() / len(labels))


def relative_error(quantizer: Quantizer, vectors_ND: Tensor) -> float:
    """Squared error of the reconstructions over that of the mean vector."""
    error = (quantizer.decode(quantizer.encode(vectors_ND)) - vectors_ND).pow(2).sum()
    return float(error / (vectors_ND - vectors_ND.mean(0)).pow(2).sum())


class QuantizerContract(ConfigContract):
    """Tests that every quantizer passes; see the module's text."""

    plugin: type[Quantizer]
    settings: dict[str, Any] = {}
    training = TrainingConfig(epochs=15, batch_size=64, learning_rate=3e-3)

    def build(self, vectors_ND: Tensor | None = None, seed: int = 0) -> Quantizer:
        """A small quantizer, initialised from vectors where they are given."""
        torch.manual_seed(seed)
        dimension = DIMENSION if vectors_ND is None else vectors_ND.shape[1]
        quantizer = self.plugin(resolve(self.plugin.Config, self.settings), dimension)
        if vectors_ND is not None:
            quantizer.initialise(vectors_ND)
        return quantizer

    def trained(self, vectors_ND: Tensor, epochs: int) -> Quantizer:
        """The small quantizer, trained on vectors."""
        quantizer, run = self.build(vectors_ND), Run("contract", device="cpu", quiet=True)
        if not quantizer.by_gradient:
            return quantizer.eval()
        config = self.training.model_copy(update={"epochs": epochs})
        batches = VectorBatches(vectors_ND.numpy(), config.batch_size, run)
        fit(quantizer, batches, config=config, run=run, fingerprint="contract")
        return quantizer

    @pytest.fixture
    def config(self) -> Config:
        """The small configuration, for the tests that all plug-ins share."""
        return resolve(self.plugin.Config, self.settings)

    def test_codes_lie_in_their_codebooks(self) -> None:
        vectors_ND, _ = mixture()
        quantizer = self.build(vectors_ND).eval()
        codes_NL = quantizer.encode(vectors_ND)
        assert codes_NL.dtype == torch.int64
        assert codes_NL.shape == (len(vectors_ND), len(quantizer.codebook_sizes))
        assert (codes_NL >= 0).all()
        assert (codes_NL < torch.tensor(quantizer.codebook_sizes)).all()
        decoded_ND = quantizer.decode(codes_NL)
        assert decoded_ND.shape == vectors_ND.shape
        assert not decoded_ND.requires_grad
        assert torch.isfinite(decoded_ND).all()

    def test_losses_are_finite_and_gradients_reach_every_parameter(self) -> None:
        vectors_ND, _ = mixture()
        quantizer = self.build(vectors_ND).train()
        losses = quantizer.loss(vectors_ND)
        assert all(torch.isfinite(value).all() for value in losses.values())
        if not quantizer.by_gradient:
            assert not list(quantizer.parameters())
            return
        losses["loss"].backward()
        idle = [name for name, p in quantizer.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert idle == []

    def test_coding_changes_nothing_and_does_not_depend_on_the_batch(self) -> None:
        vectors_ND, _ = mixture()
        quantizer = self.build(vectors_ND).eval()
        before = copy.deepcopy(quantizer.state_dict())
        together = quantizer.encode(vectors_ND)
        alone = torch.cat([quantizer.encode(row[None]) for row in vectors_ND])
        assert (together == alone).all(1).float().mean() > 0.99  # ties may round either way
        assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())

    def test_same_seed_same_bits(self) -> None:
        vectors_ND, _ = mixture()
        first, second = self.trained(vectors_ND, epochs=2), self.trained(vectors_ND, epochs=2)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name
        assert torch.equal(first.encode(vectors_ND), second.encode(vectors_ND))

    def test_saved_and_loaded_codes_the_same(self, tmp_path: Path) -> None:
        vectors_ND, _ = mixture()
        quantizer = self.trained(vectors_ND, epochs=1)
        save_quantizer(tmp_path, quantizer, [*quantizer.codebook_sizes, 1])
        loaded = load_quantizer(tmp_path)
        codes_NL = quantizer.encode(vectors_ND)
        assert torch.equal(loaded.encode(vectors_ND), codes_NL)
        assert torch.equal(loaded.decode(codes_NL), quantizer.decode(codes_NL))

    def test_resumes_with_the_same_bits(self) -> None:
        """All state is in `state_dict()` and torch's generator: counters and averages are buffers."""
        batches = mixture()[0].split(40)
        first = self.build(mixture()[0], seed=1).train()
        if not first.by_gradient:
            self.build(seed=2).load_state_dict(first.state_dict())
            return
        optimizer = torch.optim.AdamW(first.parameters())
        for vectors_ND in batches[:5]:
            self._step(first, optimizer, vectors_ND)
        second = self.build(seed=2).train()
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        resumed = torch.optim.AdamW(second.parameters())
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        generator = torch.get_rng_state()
        for vectors_ND in batches[5:]:
            self._step(first, optimizer, vectors_ND)
        torch.set_rng_state(generator)
        for vectors_ND in batches[5:]:
            self._step(second, resumed, vectors_ND)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name

    def test_degenerate_vectors_have_codes(self) -> None:
        """One vector, fewer vectors than codes, all of them equal, all of them zero."""
        vectors_ND = mixture()[0]
        for case in (vectors_ND[:1], vectors_ND[:3], vectors_ND[:1].expand(50, -1), torch.zeros(50, DIMENSION)):
            quantizer = self.trained(case.contiguous(), epochs=2)
            codes_NL = quantizer.encode(case)
            assert (codes_NL < torch.tensor(quantizer.codebook_sizes)).all()
            assert torch.isfinite(quantizer.decode(codes_NL)).all()
            assert len(codes_NL.unique(dim=0)) <= len(case.unique(dim=0))

    def test_finds_the_clusters_of_a_mixture(self) -> None:
        """A quality floor: codes do not mix clusters, and reconstruct most of the variance."""
        vectors_ND, labels = mixture()
        quantizer = self.trained(vectors_ND, epochs=self.training.epochs)
        assert purity(quantizer.encode(vectors_ND), labels) > 0.95
        assert relative_error(quantizer, vectors_ND) < 0.35

    @staticmethod
    def _step(quantizer: Quantizer, optimizer: torch.optim.Optimizer, vectors_ND: Tensor) -> None:
        optimizer.zero_grad()
        quantizer.loss(vectors_ND)["loss"].backward()
        optimizer.step()
