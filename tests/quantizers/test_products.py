"""What PQ and OPQ do beyond the contract."""

import torch

from modalrec.quantizers.opq import OPQ, OPQConfig
from modalrec.quantizers.pq import PQ, PQConfig
from modalrec.testing.quantizers import relative_error


def correlated(n: int = 600, dimension: int = 10) -> torch.Tensor:
    """Vectors whose variance lies in three directions across all slices."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(3, dimension, generator=generator)
    return torch.randn(n, 3, generator=generator) @ mixing + 0.1 * torch.randn(n, dimension, generator=generator)


def test_rotation_stays_one_and_pays() -> None:
    vectors_ND = correlated()
    torch.manual_seed(0)
    plain, rotated = PQ(PQConfig(levels=3, codebook_size=16), 10), OPQ(OPQConfig(levels=3, codebook_size=16), 10)
    plain.initialise(vectors_ND)
    rotated.initialise(vectors_ND)
    assert rotated.rotation_DE.shape == (10, 12), "whole slices"
    torch.testing.assert_close(rotated.rotation_DE @ rotated.rotation_DE.T, torch.eye(10), atol=1e-4, rtol=0)
    assert relative_error(rotated, vectors_ND) < 0.5 * relative_error(plain, vectors_ND)


def test_components_are_dealt_out() -> None:
    """No slice takes all of the variance, even without a round."""
    vectors_ND = correlated()
    torch.manual_seed(0)
    quantizer = OPQ(OPQConfig(levels=3, codebook_size=16, rounds=0), 10)
    quantizer.initialise(vectors_ND)
    variances_E = (vectors_ND @ quantizer.rotation_DE).var(0)
    per_slice = variances_E.view(3, 4).sum(1)
    assert per_slice.min() > 0.1 * per_slice.max()


def test_slices_that_do_not_come_out_even() -> None:
    vectors_ND = correlated(dimension=7)
    torch.manual_seed(0)
    quantizer = PQ(PQConfig(levels=3, codebook_size=600), 7)
    quantizer.initialise(vectors_ND)
    assert relative_error(quantizer, vectors_ND) < 1e-6, "a code for every item"
