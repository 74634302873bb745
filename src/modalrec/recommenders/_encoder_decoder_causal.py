"""The causal form: every position of a history is trained at once, and all beams share one encoder state.

The encoder is a causal transformer with one position an item. From its state the decoder predicts the codes of the
following item, level by level, as the depth model of an RQ-transformer does (Lee et al. 2022, arXiv 2203.01941, section
3.2). The input at a position is that position's item, the target is the next one: no target code is in the input.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from modalrec.recommenders import ItemSpace
from modalrec.recommenders._encoder_decoder_form import Form, ItemCodes
from modalrec.recommenders._transformer import CausalTransformer, TransformerConfig, latest
from modalrec.training.windows import PAD

# B histories, T positions, P positions that have a target, L levels, V codes of a level, D width, W prefixes.


class Cache(NamedTuple):
    """States [B, 1, D] of the encoder, and the summed embeddings [B, W, D] of each prefix's codes."""

    state_B1D: Tensor
    prefix_BWD: Tensor


class CausalForm(Form):
    """See the module's text."""

    def __init__(self, config: TransformerConfig, items: ItemSpace, *, content: bool) -> None:
        super().__init__()
        self.history = config.history
        self.codes = ItemCodes(items, config.width, config.width**-0.5, content=content)
        self.encoder = CausalTransformer(config)
        self.decoder = nn.ModuleList([Level(config.width, size, level) for level, size in enumerate(self.codes.sizes)])

    def loss(self, batch: Tensor) -> dict[str, Tensor]:
        """See `Form.loss`; the mean over all positions.

        Args:
            batch: [B, T + 1] items, oldest first, padded at the end with PAD.
        """
        inputs_BT, targets_BT = batch[:, :-1], batch[:, 1:]
        real_BT = targets_BT != PAD
        states_PD = self.states(inputs_BT)[real_BT]
        codes_PL = self.codes.codes_NL[targets_BT[real_BT]]  # type: ignore[index]
        losses = [
            F.cross_entropy(logits_PV, codes_PL[:, level])
            for level, logits_PV in enumerate(self.levels(states_PD, codes_PL))
        ]
        return {"loss": torch.stack(losses).sum()}

    def states(self, items_BT: Tensor) -> Tensor:
        """Encoder states [B, T, D]; the state of a position depends on the items up to it."""
        states_BTD: Tensor = self.encoder(self.codes.summed(items_BT.clamp(min=0)))
        return states_BTD

    def levels(self, state_PD: Tensor, codes_PL: Tensor) -> list[Tensor]:
        """The logits [P, V] of every level, each given the true codes before it."""
        prefix_PD = torch.zeros_like(state_PD)
        logits: list[Tensor] = []
        for level, decoder in enumerate(self.decoder):
            logits.append(decoder(state_PD, prefix_PD))
            prefix_PD = prefix_PD + self.codes.of(level, codes_PL[:, level])
        return logits

    def encode(self, histories: Sequence[NDArray[np.int32]]) -> Tensor:
        """The encoder's state after each history, [B, D]."""
        items_BT, last_B = latest(histories, self.history, self.codes.table.weight.device)
        return self.states(items_BT)[torch.arange(len(items_BT), device=items_BT.device), last_B]

    def rows(self, states: Tensor, begin: int, end: int) -> Tensor:
        """See `Form.rows`."""
        return states[begin:end]

    def begin(self, states: Tensor) -> tuple[Tensor, Any]:
        """See `Form.begin`."""
        state_B1D = states[:, None]
        prefix_B1D = torch.zeros_like(state_B1D)
        return self.decoder[0](state_B1D, prefix_B1D).log_softmax(-1), Cache(state_B1D, prefix_B1D)

    def advance(self, level: int, codes_BW: Tensor, parents_BW: Tensor, cache: Cache) -> tuple[Tensor, Any]:
        """See `Form.advance`."""
        before_BWD = cache.prefix_BWD.gather(1, parents_BW[..., None].expand(-1, -1, cache.prefix_BWD.shape[2]))
        prefix_BWD = before_BWD + self.codes.of(level - 1, codes_BW)
        logits_BWV = self.decoder[level](cache.state_B1D, prefix_BWD)
        return logits_BWV.log_softmax(-1), Cache(cache.state_B1D, prefix_BWD)


class Level(nn.Module):
    """The decoder of one level: from the encoder's state and the codes before, logits over this level's codes only."""

    def __init__(self, width: int, size: int, level: int) -> None:
        super().__init__()
        self.prefix = nn.Linear(width, width, bias=False) if level else None
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.out_norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, size)

    def forward(self, state_D: Tensor, prefix_D: Tensor) -> Tensor:
        """States [..., D] and summed embeddings [..., D] of the codes before to logits [..., V]."""
        x_D = state_D if self.prefix is None else state_D + self.prefix(prefix_D)
        x_D = x_D + self.mlp(self.norm(x_D))
        logits: Tensor = self.logits(self.out_norm(x_D))
        return logits
