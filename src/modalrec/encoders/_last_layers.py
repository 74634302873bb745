"""The last layers of a transformer apart from those below, so that they can be trained with what their vectors feed."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from modalrec.encoders._tokens import passes_of, put_back
from modalrec.encoders._vectors import Pooling, pool
from modalrec.errors import ConfigError

# B texts or pictures, T tokens of the longest, D width of the transformer, V length of the vectors.

PASS = 32
"""Texts or pictures that go through the layers below together."""


class LastLayers(nn.Module):
    """The last layers of an encoder, and what makes a vector of their tokens.

    Args:
        model: The whole transformer, as the encoder has it: texts of the form of BERT, or pictures of that of ViT.
        count: How many of its layers.
        pooling: How token vectors become one.
        normalise: Vectors get length 1.
        behind: What follows the pooling.

    Raises:
        ConfigError: The transformer has no such layers.
    """

    def __init__(
        self, model: Any, count: int, pooling: Pooling, normalise: bool = True, behind: nn.Module | None = None
    ) -> None:
        super().__init__()
        found = [part for part in model.modules() if isinstance(part, nn.ModuleList)]
        depth = getattr(model.config, "num_hidden_layers", 0)
        layers = next((part for part in found if len(part) == depth), None)
        if layers is None or pooling == "pooled" or not 0 < count <= depth:
            raise ConfigError(
                f"finetune_layers={count}: {type(model).__name__} has no such last layers, with {depth} in all and "
                f"pooling {pooling!r}; take an encoder of the form of BERT or ViT with pooling mean or cls, or set "
                "finetune_layers=0"
            )
        self.below = depth - count
        self.layers = copy.deepcopy(layers[self.below :]).float()
        self.norm = copy.deepcopy(getattr(model, "layernorm", nn.Identity())).float()
        self.behind = copy.deepcopy(behind or nn.Identity()).float()
        self.pooling, self.normalise = pooling, normalise

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Vectors [B, V] of the tokens [T, D] of each text or picture, as the layers below leave them.

        Those of about one length go through the layers together.
        """
        passes = passes_of([len(state) for state in states], str(states[0].device))
        return put_back([self._vectors([states[place] for place in places]) for places in passes], passes)

    def _vectors(self, states: Sequence[Tensor]) -> Tensor:
        mask_BT = pad_sequence([state.new_ones(len(state)) for state in states], batch_first=True).long()
        tokens_BTD = pad_sequence([state.float() for state in states], batch_first=True)
        # What is padding gets no weight; where nothing is, no mask is the fastest.
        hidden = None if mask_BT.all() else (1.0 - mask_BT[:, None, None].float()) * torch.finfo(torch.float32).min
        for layer in self.layers:
            said = layer(tokens_BTD, hidden) if hidden is not None else layer(tokens_BTD)
            tokens_BTD = said if isinstance(said, Tensor) else said[0]
        vectors_BV = self.behind(pool(self.norm(tokens_BTD), mask_BT, self.pooling).float())
        return nn.functional.normalize(vectors_BV, dim=1) if self.normalise else vectors_BV


@torch.inference_mode()
def states_of_texts(model: Any, rows: Sequence[list[int]], padding: int, device: str, below: int) -> list[Tensor]:
    """The tokens [T, D] of each text after the first `below` layers, in half precision."""
    found: list[Tensor] = []
    for begin in range(0, len(rows), PASS):
        tokens = [torch.tensor(row or [padding]) for row in rows[begin : begin + PASS]]
        mask_BT = pad_sequence([torch.ones_like(row) for row in tokens], batch_first=True)
        tokens_BT = pad_sequence(tokens, batch_first=True, padding_value=padding)
        inputs = {"input_ids": tokens_BT.to(device), "attention_mask": mask_BT.to(device)}
        states_BTD = model(**inputs, output_hidden_states=True).hidden_states[below].half().cpu()
        found += [states_TD[: len(row)].clone() for states_TD, row in zip(states_BTD, tokens, strict=True)]
    return found


@torch.inference_mode()
def states_of_pictures(model: Any, pixels: Tensor, below: int) -> list[Tensor]:
    """The patches [T, D] of each picture after the first `below` layers, in half precision."""
    states_BTD = model(pixel_values=pixels, output_hidden_states=True).hidden_states[below].half().cpu()
    return [states_TD.clone() for states_TD in states_BTD]
