"""The T5 form: T5's own logits, the contract of recommenders, its optional tokens."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

from modalrec.recommenders._encoder_decoder_t5 import Encoder, RelativeBias
from modalrec.recommenders._encoder_decoder_tiger import T5Form
from modalrec.recommenders.encoder_decoder import EncoderDecoder
from modalrec.testing.recommenders import RecommenderContract
from modalrec.training.windows import PAD
from tests.recommenders.encoder_decoder_cases import build


class TestContract(RecommenderContract):
    plugin = EncoderDecoder
    settings = {"form": "t5", "width": 32, "layers": 1, "heads": 3, "dropout": 0.0, "history": 12, "beam_size": 20} | {
        "t5": {"head_width": 16, "separator": True, "item_positions": True, "user_tokens": 20}
    }
    training = {"epochs": 6, "batch_size": 32}


@pytest.fixture(scope="module")
def same() -> tuple[T5Form, T5ForConditionalGeneration]:
    """Our form and transformers' T5 with its random weights; token 0 is the start, the codes follow level by level."""
    torch.manual_seed(1)
    config = T5Config(
        vocab_size=19, d_model=24, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=3, dropout_rate=0.0
    )
    theirs = T5ForConditionalGeneration(config).double().eval()
    settings = {"width": 24, "layers": 3, "heads": 3, "feed_forward": 2, "history": 60}
    ours = build("t5", **settings, t5={"head_width": 8, "decoder_layers": 2}).form.double()
    with torch.no_grad():
        for parameter in theirs.parameters():  # norms are all ones otherwise
            parameter.add_(0.1 * torch.randn_like(parameter))
        replace_norms(theirs)
        weights = theirs.state_dict()
        ours.load_state_dict({name: from_theirs(name, weights) for name in ours.state_dict()})
    return ours, theirs


def replace_norms(theirs: torch.nn.Module) -> None:
    """Transformers' norm takes its variance in float32 whatever it is given; torch's is the same in float64."""
    for module in list(theirs.modules()):
        for name, norm in module.named_children():
            if isinstance(norm, T5LayerNorm):
                double = torch.nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon, dtype=torch.float64)
                double.weight.copy_(norm.weight)
                x = torch.randn(4, len(norm.weight), dtype=torch.float64)
                torch.testing.assert_close(double(x), norm(x), rtol=1e-5, atol=0)
                setattr(module, name, double)


def from_theirs(name: str, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """Our weight of this name, cut from or put together of transformers' ones."""
    if name in ("start", "codes.table.weight"):
        return weights["shared.weight"][0] if name == "start" else weights["shared.weight"][1:]
    stack, *rest = name.split(".")
    if rest == ["bias", "weight"]:
        return weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    if rest == ["norm", "weight"]:
        return weights[f"{stack}.final_layer_norm.weight"]
    block, part = f"{stack}.block.{rest[1]}.layer", ".".join(rest[2:-1])
    last = 2 if stack == "decoder" else 1
    where = {
        "norm": ["0.layer_norm"],
        "attention.qkv": [f"0.SelfAttention.{letter}" for letter in "qkv"],
        "attention.out": ["0.SelfAttention.o"],
        "cross_norm": ["1.layer_norm"],
        "cross.q": ["1.EncDecAttention.q"],
        "cross.kv": [f"1.EncDecAttention.{letter}" for letter in "kv"],
        "cross.out": ["1.EncDecAttention.o"],
        "feed_forward.norm": [f"{last}.layer_norm"],
        "feed_forward.wide": [f"{last}.DenseReluDense.wi"],
        "feed_forward.narrow": [f"{last}.DenseReluDense.wo"],
    }[part]
    return torch.cat([weights[f"{block}.{piece}.weight"] for piece in where])


@torch.no_grad()
def test_stacks_and_logits_are_transformers(same: tuple[T5Form, T5ForConditionalGeneration]) -> None:
    """Histories of 50 and 4 items: 150 tokens reach the furthest bucket of relative positions."""
    ours, theirs = same
    generator = torch.Generator().manual_seed(0)
    items = torch.randint(60, (2, 50), generator=generator)
    items[1, 4:] = PAD
    tokens = 1 + ours.codes.tokens_NL[items.clamp(min=0)].flatten(1)
    real = (items != PAD).repeat_interleave(3, 1)
    codes = torch.tensor([[3, 1, 0], [7, 7, 1]])
    after = 1 + codes + torch.tensor(ours.codes.starts[:-1])
    decoder_input = torch.cat([torch.zeros(2, 1, dtype=torch.int64), after[:, :-1]], 1)
    expected = theirs(
        input_ids=tokens, attention_mask=real.long(), decoder_input_ids=decoder_input, output_hidden_states=True
    )

    embedded, found_real = ours.embed(items, items[:, 0])
    assert torch.equal(found_real, real)
    padding = torch.zeros(real.shape, dtype=torch.float64).masked_fill(~real, -torch.inf)[:, None, None]
    close = {"rtol": 0, "atol": 1e-9}
    encoded = ours.encoder(embedded, padding)
    torch.testing.assert_close(encoded[real], expected.encoder_last_hidden_state[real], **close)
    states = ours.read(items, items[:, 0])
    x = torch.stack([ours.start.expand(2, -1), ours.codes.of(0, codes[:, 0]), ours.codes.of(1, codes[:, 1])], 1)
    torch.testing.assert_close(ours.decoder(x, *states), expected.decoder_hidden_states[-1], **close)
    for level, logits in enumerate(ours.levels(states, codes)):
        begin, end = 1 + ours.codes.starts[level], 1 + ours.codes.starts[level + 1]
        torch.testing.assert_close(logits, expected.logits[:, level, begin:end], **close)


@torch.no_grad()
@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_the_relative_bias_is_transformers(same: tuple[T5Form, T5ForConditionalGeneration], stack: str) -> None:
    ours, theirs = same
    bias: RelativeBias = getattr(ours, stack).bias
    attention = getattr(theirs, stack).block[0].layer[0].SelfAttention
    places = torch.arange(300)
    torch.testing.assert_close(bias(places, places), attention.compute_bias(300, 300), rtol=0, atol=0)


def test_padding_changes_nothing() -> None:
    model = build("t5")
    short, long = np.array([5, 6], np.int32), np.arange(10, 20, dtype=np.int32)
    together, alone = (model.score(model.prepare(rows), 0, 60)[0] for rows in ([short, long], [short]))
    np.testing.assert_allclose(together, alone, rtol=1e-4)


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "separator": {"separator": True},
    "item_positions": {"item_positions": True},
    "user_tokens": {"user_tokens": 9},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_tokens_of_a_history(option: str) -> None:
    form = build("t5", t5=OPTIONS[option]).form
    assert isinstance(form, T5Form)
    items = torch.tensor([[3, 4], [5, PAD]])
    embedded, real = form.embed(items, items[:, 0])
    per_item = 4 if option == "separator" else 3
    extra = int(option == "user_tokens")
    assert embedded.shape == (2, 2 * per_item + extra, 16)
    assert real.sum(1).tolist() == [2 * per_item + extra, per_item + extra]
    codes = form.codes(items[0])
    if option == "none":
        torch.testing.assert_close(embedded[0], codes.flatten(0, 1))
    if option == "separator":
        assert all(torch.equal(embedded[0, place], form.separator) for place in (3, 7))
    if option == "item_positions":
        torch.testing.assert_close(embedded[0].view(2, 3, 16) - codes, form.positions[[1, 0], None].expand(2, 3, 16))
        torch.testing.assert_close(embedded[1, :3], form.codes(items[1, :1])[0] + form.positions[0])


def test_a_users_token_is_of_their_first_item_however_long_ago() -> None:
    model = build("t5", history=2, t5={"user_tokens": 1000})
    histories = [np.array(row, np.int32) for row in ([1, 8, 9], [2, 8, 9], [1, 7, 8, 9])]
    scores = model.score(model.prepare(histories), 0, 60)
    np.testing.assert_allclose(scores[0], scores[2], rtol=1e-5)
    assert not np.allclose(scores[0], scores[1])


def test_an_encoder_state_depends_on_every_token() -> None:
    form = build("t5").form
    assert isinstance(form.encoder, Encoder)
    x = torch.randn(1, 6, 16, requires_grad=True)
    form.encoder(x, None)[0, 0].sum().backward()
    assert (x.grad.abs().sum(2) > 0).all()
