"""Constrained decoding of semantic IDs: our two forms beside transformers' T5, interleaved in one process, one thread.

Each searches 20 beams for the four codes of one of 12,101 items after histories of 20 items, which T5 reads as 80
tokens. Transformers' side is `generate` with a `prefix_allowed_tokens_fn` that looks a prefix up in a dict. It and our
T5 have the same weights, but its softmax is over all tokens and ours over the level's, so their lists differ in part;
the causal form has TIGER's width and 4 layers. Training is by AdamW, on batches of 256 targets (T5) or of 128 windows
of up to 21 items (causal), of histories of 5 to 21 items; scores of all items are what the beam is compared with, for a
few users.
CPU-seconds by `time.process_time`, the kernel's included.
"""

import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from modalrec.config import resolve
from modalrec.data.sequences import Sequences
from modalrec.data.splits import TRAIN
from modalrec.recommenders import ItemSpace
from modalrec.recommenders._encoder_decoder_tiger import T5Form
from modalrec.recommenders.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from modalrec.training.steps import GradientSteps

ITEMS, SIZES, HISTORY, BATCH, BEAMS, ROUNDS = 12_101, (256, 256, 256, 8), 20, 32, 20, 5
T5 = {"form": "t5", "layers": 4, "heads": 6, "feed_forward": 8}
CAUSAL = {"layers": 4, "heads": 4}


def main(argv: Sequence[str] = ()) -> None:
    """Prints the tables."""
    torch.set_num_threads(1)
    items = catalogue()
    t5, causal = (model(items, settings) for settings in (T5, CAUSAL))
    theirs = as_transformers(t5)
    rng = np.random.default_rng(1)
    histories = [rng.integers(0, ITEMS, HISTORY).astype(np.int32) for _ in range(BATCH)]
    allowed = followers(items)
    found: dict[str, np.ndarray] = {}

    def recommend(name: str, own: EncoderDecoder) -> Callable[[], None]:
        def run() -> None:
            found[name] = own.recommend(histories, BEAMS, mask_seen=False).items

        return run

    def generate() -> None:
        found["transformers"] = transformers_way(theirs, items, histories, allowed)

    ways = {"transformers": generate, "t5": recommend("t5", t5), "causal": recommend("causal", causal)}
    print(f"beam search, {BEAMS} beams, {ITEMS:,} items, batches of {BATCH}, one thread, median of {ROUNDS} rounds")
    table(ways, BATCH, "users")
    same = np.mean([len({*a} & {*b}) / BEAMS for a, b in zip(found["t5"], found["transformers"], strict=True)])
    print(f"the T5 form and transformers' lists share {100 * same:.1f} % of their items")
    print("\nscores of all items")
    for name, own in (("t5", t5), ("causal", causal)):
        begin = time.process_time()
        own.score(own.prepare(histories[:4]), 0, ITEMS)
        print(f"{name:<14} {4 / (time.process_time() - begin):>9.2f} users per CPU-second", flush=True)
    print("\ntraining")
    for name, settings, batch_size in (("t5", T5, 256), ("causal", CAUSAL, 128)):
        seconds, targets = training(items, settings, batch_size)
        print(f"{name:<14} {targets / seconds:>9,.0f} targets per CPU-second")


def table(ways: dict[str, Callable[[], None]], count: int, what: str) -> None:
    """Measures the ways in turn and prints what each does in a CPU-second; the ratios are to the first one."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(ROUNDS + 1):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            if round_:  # the first round builds tries and touches memory
                spent[name].append(time.process_time() - begin)
    first = next(iter(ways))
    for name, seconds in spent.items():
        ratios = [a / b for a, b in zip(spent[first], seconds, strict=True)]
        rounds = f"{min(ratios):.1f} - {max(ratios):.1f}"
        print(
            f"{name:<14} {count / statistics.median(seconds):>9.1f} {what} per CPU-second"
            f"{statistics.median(ratios):>8.1f} x   rounds {rounds}",
            flush=True,
        )


def catalogue() -> ItemSpace:
    """Items with three drawn codes; the fourth tells those apart that share them."""
    rng = np.random.default_rng(0)
    # Codes of a residual quantizer are not used alike: squares of uniform numbers favour the first ones.
    codes = (rng.random((ITEMS, 3)) ** 2 * 256).astype(np.int32)
    count: defaultdict[tuple[int, ...], int] = defaultdict(int)
    places = []
    for row in map(tuple, codes.tolist()):
        places.append(count[row])
        count[row] += 1
    names = [str(item) for item in range(ITEMS)]
    return ItemSpace(names, names, np.column_stack([codes, np.array(places, np.int32)]), SIZES)


def model(items: ItemSpace, settings: dict[str, object]) -> EncoderDecoder:
    """A model of TIGER's width, with random weights."""
    torch.manual_seed(0)
    common = {"width": 128, "dropout": 0.1, "history": HISTORY, "beam_size": BEAMS}
    return EncoderDecoder(resolve(EncoderDecoderConfig, common, settings), items).eval()


def as_transformers(ours: EncoderDecoder) -> T5ForConditionalGeneration:
    """Transformers' T5 with the weights of ours; token 0 begins the decoding, the codes follow level by level."""
    form = ours.form
    assert isinstance(form, T5Form)
    config = T5Config(vocab_size=1 + sum(SIZES), d_model=128, d_kv=64, d_ff=1024, num_layers=4, num_heads=6)
    theirs = T5ForConditionalGeneration(config).eval()
    weights = theirs.state_dict()
    own = form.state_dict()
    taken = {"shared.weight": torch.cat([own["start"][None], own["codes.table.weight"]])}
    for stack in ("encoder", "decoder"):
        taken[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = own[f"{stack}.bias.weight"]
        for number in range(4):
            from_, to = f"{stack}.layers.{number}", f"{stack}.block.{number}.layer"
            for letter, part in zip("qkv", own[f"{from_}.attention.qkv.weight"].chunk(3), strict=True):
                taken[f"{to}.0.SelfAttention.{letter}.weight"] = part
            taken[f"{to}.0.SelfAttention.o.weight"] = own[f"{from_}.attention.out.weight"]
            last = 1
            if stack == "decoder":
                last = 2
                taken[f"{to}.1.EncDecAttention.q.weight"] = own[f"{from_}.cross.q.weight"]
                for letter, part in zip("kv", own[f"{from_}.cross.kv.weight"].chunk(2), strict=True):
                    taken[f"{to}.1.EncDecAttention.{letter}.weight"] = part
                taken[f"{to}.1.EncDecAttention.o.weight"] = own[f"{from_}.cross.out.weight"]
            taken[f"{to}.{last}.DenseReluDense.wi.weight"] = own[f"{from_}.feed_forward.wide.weight"]
            taken[f"{to}.{last}.DenseReluDense.wo.weight"] = own[f"{from_}.feed_forward.narrow.weight"]
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"):
        taken[name] = taken["shared.weight"]
    left = {name for name in weights if name not in taken}
    assert all("layer_norm" in name for name in left), left  # all ones in both
    theirs.load_state_dict(weights | taken)
    return theirs


def followers(items: ItemSpace) -> dict[tuple[int, ...], list[int]]:
    """From a prefix of tokens to the tokens that may come next."""
    found: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    for row in tokens(items).tolist():
        for level in range(len(row)):
            found[tuple(row[:level])].add(row[level])
    return {prefix: sorted(after) for prefix, after in found.items()}


def tokens(items: ItemSpace) -> np.ndarray:
    """Tokens [N, L] of transformers' T5."""
    assert items.codes is not None
    return items.codes + 1 + np.concatenate([[0], np.cumsum(SIZES[:-1])])


@torch.inference_mode()
def transformers_way(
    theirs: T5ForConditionalGeneration,
    items: ItemSpace,
    histories: list[np.ndarray],
    allowed: dict[tuple[int, ...], list[int]],
) -> np.ndarray:
    """The items that `generate` finds."""
    own = tokens(items)
    given = torch.from_numpy(own[np.stack(histories)].reshape(len(histories), -1).astype(np.int64))
    made = theirs.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        max_new_tokens=len(SIZES),
        min_new_tokens=len(SIZES),
        do_sample=False,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=None,
        length_penalty=0.0,
        prefix_allowed_tokens_fn=lambda batch, prefix: allowed[tuple(prefix[1:].tolist())],
    )
    item_of = {tuple(row): item for item, row in enumerate(own.tolist())}
    return np.array([item_of[tuple(row)] for row in made[:, 1:].tolist()]).reshape(len(histories), -1)


def training(items: ItemSpace, settings: dict[str, object], batch_size: int) -> tuple[float, int]:
    """CPU-seconds of some steps, and the targets that they learnt from."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(5, 22, 3000)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    drawn = rng.integers(0, ITEMS, offsets[-1]).astype(np.int32)
    sequences = Sequences(drawn, offsets, np.full(len(drawn), TRAIN, np.int8), ITEMS, "leave_one_out")
    own = model(items, settings).train()
    batches = own.batches(sequences, batch_size, 0, False)
    steps = GradientSteps(own, 0.01, 1.0)
    seconds, targets = 0.0, 0
    for step, indices in enumerate(batches.plan(0)[:13]):
        begin = time.process_time()
        batch = batches.build(0, step, indices)
        steps.step(batch, 1e-3)
        if step:
            seconds += time.process_time() - begin
            targets += len(batch["target"]) if isinstance(batch, dict) else int((batch[:, 1:] >= 0).sum())
    return seconds, targets


if __name__ == "__main__":
    if os.environ.get("OMP_NUM_THREADS") != "1":
        # Threads of matrix products are fixed when the libraries are loaded.
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.benchmarks.decoding"], os.environ | one_thread)  # noqa: S606
    main(sys.argv[1:])
