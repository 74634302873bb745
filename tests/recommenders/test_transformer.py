"""The shared causal transformer against torch's own layers and the definition of rotary positions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from modalrec.config import resolve
from modalrec.errors import ConfigError
from modalrec.recommenders._content import Content, whitened, whitening
from modalrec.recommenders._transformer import Block, CausalTransformer, TransformerConfig, _turned, _turns

SMALL = {"width": 16, "heads": 2, "dropout": 0.0, "history": 12}


def build(**settings: object) -> CausalTransformer:
    torch.manual_seed(0)
    return CausalTransformer(resolve(TransformerConfig, SMALL, settings)).eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_is_torchs_encoder_layer(norm: str) -> None:
    torch.manual_seed(0)
    ours = Block(resolve(TransformerConfig, SMALL, {"norm": norm})).double().eval()
    theirs = nn.TransformerEncoderLayer(
        16, 2, 64, dropout=0, activation="gelu", batch_first=True, norm_first=norm == "pre"
    ).double()
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": ours.qkv.weight,
            "self_attn.in_proj_bias": torch.zeros(48),
            "self_attn.out_proj.weight": ours.out.weight,
            "self_attn.out_proj.bias": torch.zeros(16),
            "linear1.weight": ours.mlp[0].weight,
            "linear1.bias": ours.mlp[0].bias,
            "linear2.weight": ours.mlp[2].weight,
            "linear2.bias": ours.mlp[2].bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.mlp_norm.weight,
            "norm2.bias": ours.mlp_norm.bias,
        }
    )
    x = torch.randn(3, 7, 16, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(7, dtype=torch.float64)
    torch.testing.assert_close(ours(x, None), theirs(x, mask, is_causal=True), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@given(place=st.integers(1, 9))
def test_a_state_knows_nothing_of_later_items(norm: str, positions: str, place: int) -> None:
    model = build(norm=norm, positions=positions)
    x = torch.randn(1, 10, 16)
    changed = x.clone()
    changed[0, place] += 1
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert torch.equal(before[:, :place], after[:, :place])
    assert not torch.equal(before[:, place:], after[:, place:])


def test_rotary_products_depend_on_the_distance_alone() -> None:
    turns = _turns(20, 8).double()
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    queries, keys = _turned(query.expand(1, 1, 20, 8), turns)[0, 0], _turned(key.expand(1, 1, 20, 8), turns)[0, 0]
    products = queries @ keys.T
    for distance in range(5):
        same = products.diagonal(-distance)
        torch.testing.assert_close(same, same[:1].expand(len(same)), rtol=1e-6, atol=1e-6)
    assert float(products[1, 0]) != pytest.approx(float(products[0, 0]))


def test_learned_positions_tell_places_apart() -> None:
    x = torch.randn(1, 1, 16).expand(1, 2, 16)
    with torch.no_grad():
        first, second = build(positions="learned")(x)[0]
    assert not torch.allclose(first, second)


def test_refuses_heads_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="heads=3 does not divide width=16"):
        resolve(TransformerConfig, SMALL, {"heads": 3})
    with pytest.raises(ConfigError, match="needs heads of an even width, not 1"):
        resolve(TransformerConfig, SMALL, {"heads": 16, "positions": "rotary"})


def test_whitened_vectors_have_unit_covariance_and_missing_ones_stay_zero() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((500, 6)) * [9, 5, 1, 0.5, 0.2, 1e-5] + 3).astype(np.float32)
    vectors[7] = 0
    white = whitened(vectors)
    assert white.shape == (500, 5)
    assert not white[7].any()
    np.testing.assert_allclose(np.cov(np.delete(white, 7, 0), rowvar=False), np.eye(5), atol=1e-4)


def test_whitening_is_a_function_of_the_vectors_alone() -> None:
    """What is found on some vectors whitens others in the same axes."""
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((50, 4)).astype(np.float32) for _ in range(2))
    before = first.copy()
    by = whitening(first)
    np.testing.assert_array_equal(whitened(first, by), whitened(first))
    together = whitened(np.concatenate([first, second]), by)
    np.testing.assert_array_equal(together[50:], whitened(second, by))
    np.testing.assert_array_equal(first, before)
    single = whitened(first[:1])
    np.testing.assert_array_equal(single, first[:1])


def test_a_projection_takes_its_whitening_with_it() -> None:
    """To another catalogue, whose own directions are others and may be fewer."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((60, 5)).astype(np.float32)
    second = (rng.standard_normal((40, 5)) * [1, 9, 1, 3, 1e-6]).astype(np.float32)
    source, target = (Content(vectors, 3, std=1.0) for vectors in (first, second))
    assert target.projection.in_features == 4
    target.load_state_dict(source.state_dict())
    expected = (
        torch.from_numpy(whitened(second, whitening(first))) @ source.projection.weight.T + source.projection.bias
    )
    torch.testing.assert_close(target(slice(None)), expected)
    again = Content(second, 3, std=1.0)
    again.load_state_dict(target.state_dict())
    assert torch.equal(again(slice(None)), target(slice(None)))
    own = Content(first, 3, std=1.0)
    own.load_state_dict(source.state_dict())
    assert torch.equal(own(slice(None)), source(slice(None)))


def test_weights_for_vectors_of_another_width_are_refused() -> None:
    source, target = (Content(np.eye(6, width, dtype=np.float32), 3, std=1.0) for width in (5, 4))
    with pytest.raises(RuntimeError, match="size mismatch"):
        target.load_state_dict(source.state_dict())


def test_content_is_looked_up_by_item_and_never_trained() -> None:
    vectors = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    content = Content(vectors, 3, std=1.0, whiten=False)
    torch.testing.assert_close(content(torch.tensor([2, 5])), content(slice(None))[[2, 5]])
    assert [name for name, _ in content.named_parameters()] == ["projection.weight", "projection.bias"]


def test_items_that_are_alike_begin_as_neighbours() -> None:
    vectors = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32) * [9, 5, 3, 2, 1, 1]
    start = Content(vectors.astype(np.float32), 4, std=0.5)(slice(None)).detach().numpy()
    np.testing.assert_allclose(start, 0.5 * whitened(vectors.astype(np.float32))[:, :4], atol=1e-5)
    leading = np.abs(np.corrcoef(start[:, 0], vectors[:, 0])[0, 1])
    assert leading > 0.95
