"""Small catalogues with texts and pictures, as lists of vectors."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from modalrec.artifacts.embedding_lists import VectorLists
from modalrec.config import resolve
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.mp4sr import MP4SR, MP4SRConfig
from modalrec.testing.recommenders import item_space

SMALL = {"width": 32, "dropout": 0.0, "adaptor_dropout": 0.0, "history": 12, "experts": 2, "attention_width": 8}


def lists_of(counts: list[int], length: int, seed: int = 0, words: int = 0) -> VectorLists:
    """As many random vectors an item, of a vocabulary of so many `words` or each its own."""
    rng, total = np.random.default_rng(seed), sum(counts)
    vectors = rng.standard_normal((words or total, length)).astype(np.float32)
    members = rng.integers(words, size=total) if words else np.arange(total)
    return VectorLists(vectors, members.astype(np.int32), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def multimodal_space(n_items: int = 60) -> ItemSpace:
    """Items with one to three sentences and two to four words; the first lacks a text, the second a picture."""
    counts = 1 + np.arange(n_items) % 3
    words = 2 + np.arange(n_items) % 3
    counts[0], words[1] = 0, 0
    text, image = lists_of(counts.tolist(), 12), lists_of(words.tolist(), 10, seed=1, words=40)
    return replace(item_space(n_items, (n_items, 1, 1)), text=text, image=image)


def build(items: ItemSpace | None = None, seed: int = 0, **settings: Any) -> MP4SR:
    """A small model."""
    torch.manual_seed(seed)
    return MP4SR(resolve(MP4SRConfig, {**SMALL, **settings}), items or multimodal_space())


COUNTS = [2, 3, 1, 3]
"""Vectors of each item of the golden numbers."""
LENGTH, HIDDEN, WIDTH, EXPERTS = 6, 5, 4, 3
NEXT = [2, 0, 1, 0, 3, 0, 2]
"""The next item of each row of the golden numbers' batch."""
TEMPERATURE = 0.3


def reference_inputs() -> dict[str, torch.Tensor]:
    """Inputs of the golden numbers, from a formula: waves of other phases."""
    shapes = {
        "vectors": (sum(COUNTS), LENGTH),
        "attention_0": (HIDDEN, LENGTH),
        "attention_bias_0": (HIDDEN,),
        "attention_1": (1, HIDDEN),
        "attention_bias_1": (1,),
        "expert_weights": (EXPERTS, WIDTH, LENGTH),
        "expert_biases": (EXPERTS, WIDTH),
        "expert_scales": (EXPERTS, WIDTH),
        "expert_shifts": (EXPERTS, WIDTH),
        "gate": (LENGTH, EXPERTS),
        "first": (len(NEXT), WIDTH),
        "second": (len(NEXT), WIDTH),
        "items": (len(COUNTS), WIDTH),
    }
    waves = {}
    for number, (name, shape) in enumerate(shapes.items()):
        places = torch.arange(int(np.prod(shape)), dtype=torch.float64)
        waves[name] = torch.sin(1.7 * places + number).float().reshape(shape)
    return waves
