"""Small models of both forms."""

from typing import Any

import numpy as np
import torch

from modalrec.config import resolve
from modalrec.recommenders import ItemSpace
from modalrec.recommenders.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from modalrec.testing.recommenders import item_space

FORMS: dict[str, dict[str, Any]] = {
    "causal": {"width": 16, "heads": 2, "dropout": 0, "history": 12},
    "t5": {"form": "t5", "width": 16, "heads": 3, "dropout": 0, "history": 12, "t5": {"head_width": 8}},
}


def build(form: str, items: ItemSpace | None = None, **settings: Any) -> EncoderDecoder:
    torch.manual_seed(0)
    config = resolve(EncoderDecoderConfig, FORMS[form], settings)
    return EncoderDecoder(config, items or item_space()).eval()


def colliding(n_items: int = 60) -> ItemSpace:
    """Three items to every semantic ID, but for the last ones: 21 have one ID, 6 have their own."""
    numbers = np.arange(n_items) // 3
    numbers[-27:-6], numbers[-6:] = 32, np.arange(40, 46)
    codes = np.stack(np.unravel_index(numbers, (8, 8)), axis=1).astype(np.int32)
    names = [f"item-{item}" for item in range(n_items)]
    return ItemSpace(names, names, codes, (8, 8))
